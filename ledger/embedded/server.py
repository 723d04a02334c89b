"""A user of the embedded server: joins it, or starts it when it is the first; leaving last, sees it stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypedDict
from urllib.parse import quote

import asyncpg

import ledger
from ledger.embedded.binaries import SYSTEM_CACHE, wheel_binaries
from ledger.embedded.errors import EmbeddedPostgresError
from ledger.embedded.files import (
    DATABASE,
    PORT,
    ROLE,
    SUPERUSER,
    ClusterFiles,
    check_private_folder,
    make_folder,
    open_private,
    open_supervisor_log,
)
from ledger.embedded.locks import is_held, lock_within, try_lock

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 300.0
"""How long a start may take, recovery after a crash included."""

_POLL_S = 0.02
_PROGRESS_EVERY_S = 5.0
_CHECK_EVERY_S = 1.0
_RETRY_AFTER_S = 5.0
_STOP_TIMEOUT_S = 30.0


class ConnectKwargs(TypedDict):
    """Arguments of `asyncpg.connect` and `asyncpg.create_pool`."""

    host: str
    port: int
    user: str
    password: str
    database: str


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A running server. `connect_kwargs` and `dsn` hold the password: never log them; `safe_dsn` is for people."""

    files: ClusterFiles
    socket_folder: Path

    @property
    def connect_kwargs(self) -> ConnectKwargs:
        """The role that owns the database `boltworks` and is no superuser."""
        return self._kwargs(ROLE)

    @property
    def superuser_connect_kwargs(self) -> ConnectKwargs:
        """For what the role may not do, such as making further databases."""
        return self._kwargs(SUPERUSER)

    @property
    def dsn(self) -> str:
        """`postgresql://boltworks:<password>@/boltworks?host=<socket folder>`."""
        password = quote(self.connect_kwargs["password"], safe="")
        return f"postgresql://{ROLE}:{password}@/{DATABASE}?host={quote(str(self.socket_folder))}"

    @property
    def safe_dsn(self) -> str:
        """The same without the password."""
        return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self.socket_folder))}"

    @property
    def psql_command(self) -> str:
        """A shell command that opens the database; it names the file of the password, not the password."""
        password_file = shlex.quote(str(self.files.password(ROLE)))
        psql = shlex.quote(str(wheel_binaries().program("psql")))
        folder = shlex.quote(str(self.socket_folder))
        return f'PGPASSWORD="$(cat {password_file})" {psql} -h {folder} -U {ROLE} {DATABASE}'

    def _kwargs(self, role: str) -> ConnectKwargs:
        password = self.files.password(role).read_text()
        return {
            "host": str(self.socket_folder),
            "port": PORT,
            "user": role,
            "password": password,
            "database": DATABASE,
        }


@contextlib.asynccontextmanager
async def embedded_postgres(
    data_dir: Path, *, cache_dir: Path = SYSTEM_CACHE, start_timeout_s: float = START_TIMEOUT_S
) -> AsyncIterator[EmbeddedPostgres]:
    """The PostgreSQL of `data_dir`, accepting connections, for as long as the block runs.

    Any number of processes may be in such a block at once. The server is stopped when the last of them leaves it
    or dies; the last one to leave waits for that. Should the server die meanwhile, it is started again (open
    connections are lost). `cache_dir` is where root keeps a copy of binaries that the system user cannot reach.

    Raises EmbeddedPostgresError when the server cannot be started or does not accept within `start_timeout_s`.
    """
    files = ClusterFiles.of(data_dir)
    make_folder(files)
    deadline = _Deadline(start_timeout_s, files)
    users_lock_fd = open_private(files.users_lock)
    _inherited_by_no_fork.add(users_lock_fd)
    try:
        await _join(users_lock_fd, deadline)
        server = await _accepting(files, cache_dir, deadline)
        keeper = asyncio.create_task(_keep_running(files, cache_dir, start_timeout_s))
        try:
            yield server
        finally:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
    finally:
        await asyncio.to_thread(_leave, files, users_lock_fd)


class _Deadline:
    """The limit of a start; says now and then what is being waited for."""

    def __init__(self, timeout_s: float, files: ClusterFiles) -> None:
        self._timeout_s = timeout_s
        self._files = files
        self._began = time.monotonic()
        self._next_word_s = _PROGRESS_EVERY_S

    @contextlib.asynccontextmanager
    async def limit(self, reason: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(max(0.0, self._began + self._timeout_s - time.monotonic())):
                yield
        except TimeoutError:
            raise self._exceeded(reason) from None

    async def wait(self, reason: str) -> None:
        waited_s = time.monotonic() - self._began
        if waited_s > self._timeout_s:
            raise self._exceeded(reason)
        if waited_s > self._next_word_s:
            self._next_word_s += _PROGRESS_EVERY_S
            logger.info("waiting for PostgreSQL, %.0f s of at most %.0f s: %s", waited_s, self._timeout_s, reason)
        await asyncio.sleep(_POLL_S)

    def _exceeded(self, reason: str) -> EmbeddedPostgresError:
        return EmbeddedPostgresError(
            f"PostgreSQL does not accept connections after {self._timeout_s:.0f} s: {reason}; see {self._files.log}"
        )


async def _join(users_lock_fd: int, deadline: _Deadline) -> None:
    """From here on the server is not stopped for want of users. Not granted while a server is being stopped."""
    while not try_lock(users_lock_fd, shared=True):
        await deadline.wait("the server is being stopped")


async def _accepting(files: ClusterFiles, cache_dir: Path, deadline: _Deadline) -> EmbeddedPostgres:
    while True:
        await _start_if_down(files, cache_dir, deadline)
        server = EmbeddedPostgres(files, files.socket_folder())
        refusal = await _refusal(server)
        if refusal is None:
            return server
        await deadline.wait(refusal)


async def _refusal(server: EmbeddedPostgres) -> str | None:
    """Why the server takes no connection now; None when it does. Raises EmbeddedPostgresError when it never will."""
    try:
        check_private_folder(server.socket_folder, server.files.run.stat().st_uid)
        kwargs = server.connect_kwargs
        connection = await asyncpg.connect(**kwargs, timeout=10)
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise EmbeddedPostgresError(
            f"PostgreSQL refuses the password in {server.files.password(ROLE)}: "
            "stop all users and remove that file, and the next start sets a new one"
        ) from error
    except EmbeddedPostgresError as error:
        return str(error)
    except asyncpg.TooManyConnectionsError:
        return None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return str(error) or type(error).__name__
    await connection.close()
    return None


async def _start_if_down(files: ClusterFiles, cache_dir: Path, deadline: _Deadline) -> None:
    """Who gets the supervisor's lock starts the supervisor and hands the lock over with it."""
    lock_fd = open_private(files.supervisor_lock)
    try:
        if try_lock(lock_fd):
            os.ftruncate(lock_fd, 0)
            async with deadline.limit("it is starting"):
                await _start_supervisor(files, cache_dir, lock_fd)
    finally:
        os.close(lock_fd)


async def _start_supervisor(files: ClusterFiles, cache_dir: Path, lock_fd: int) -> None:
    report_read_fd, report_write_fd = os.pipe()
    reports = os.fdopen(report_read_fd, "rb")
    try:
        launcher = _launch(files, cache_dir, lock_fd, report_write_fd)
    except OSError:
        reports.close()
        raise
    finally:
        os.close(report_write_fd)
    try:
        await _follow_reports(files, reports)
    finally:
        launcher.wait()


def _launch(files: ClusterFiles, cache_dir: Path, lock_fd: int, report_fd: int) -> subprocess.Popen[bytes]:
    """What this starts forks the supervisor and ends, so that the supervisor is nobody's child."""
    log_fd = open_supervisor_log(files)
    try:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "ledger.embedded.supervisor"),
                *("--folder", str(files.folder), "--cache-dir", str(cache_dir)),
                *("--lock-fd", str(lock_fd), "--report-fd", str(report_fd)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            cwd="/",
            env=_supervisor_environment(),
            pass_fds=(lock_fd, report_fd),
            start_new_session=True,
        )
    finally:
        os.close(log_fd)


async def _follow_reports(files: ClusterFiles, reports: BinaryIO) -> None:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), reports
    )
    try:
        while line := (await reader.readline()).decode().strip():
            kind, _, text = line.partition(" ")
            if kind == "started":
                return
            if kind == "failed":
                raise EmbeddedPostgresError(text)
            logger.info("%s", text)
    finally:
        transport.close()
    raise EmbeddedPostgresError(f"the supervisor of PostgreSQL ended while it was starting: see {files.supervisor_log}")


def _supervisor_environment() -> dict[str, str]:
    """Ours, with this very package found whatever the folder we were started in."""
    package_root = str(Path(ledger.__file__).resolve().parent.parent)
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


async def _keep_running(files: ClusterFiles, cache_dir: Path, start_timeout_s: float) -> None:
    while True:
        await asyncio.sleep(_CHECK_EVERY_S)
        if await asyncio.to_thread(is_held, files.supervisor_lock):
            continue
        logger.warning("PostgreSQL is gone: starting it again")
        try:
            await _accepting(files, cache_dir, _Deadline(start_timeout_s, files))
        except EmbeddedPostgresError as error:
            logger.error("%s", error)
            await asyncio.sleep(_RETRY_AFTER_S)


def _leave(files: ClusterFiles, users_lock_fd: int) -> None:
    """Stop being a user. The last one tells the supervisor to stop, and waits while nobody new can join."""
    _inherited_by_no_fork.discard(users_lock_fd)
    try:
        if try_lock(users_lock_fd):
            _stop_supervisor(files)
        elif not try_lock(users_lock_fd, shared=True):
            _await_stop(files)
    finally:
        os.close(users_lock_fd)


def _stop_supervisor(files: ClusterFiles) -> None:
    pid_text = files.supervisor_lock.read_text() if files.supervisor_lock.exists() else ""
    if pid_text and is_held(files.supervisor_lock):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid_text), signal.SIGTERM)
        _await_stop(files)


def _await_stop(files: ClusterFiles) -> None:
    lock_fd = open_private(files.supervisor_lock)
    try:
        if not lock_within(lock_fd, _STOP_TIMEOUT_S, shared=True):
            logger.warning("PostgreSQL is still stopping: see %s", files.supervisor_log)
    finally:
        os.close(lock_fd)


_inherited_by_no_fork: set[int] = set()


def _forget_in_fork() -> None:
    """A forked child is no user: it must not keep the server running when we are gone."""
    for fd in _inherited_by_no_fork:
        os.close(fd)
    _inherited_by_no_fork.clear()


os.register_at_fork(after_in_child=_forget_in_fork)
