"""One postmaster: its settings, its start, its end, and what an earlier one may have left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from ledger.embedded.errors import EmbeddedPostgresError
from ledger.embedded.files import PORT, ClusterFiles, make_private_folder
from ledger.embedded.locks import lock_within, try_lock
from ledger.embedded.programs import Programs

logger = logging.getLogger(__name__)

LOG_FILES_KEPT = 10
LOG_FILE_MAX_MB = 10

_STATUS_LINE = 7
_READY = "ready   "
_LEFTOVER_GRACE_S = 2.0
_STOP_STEPS = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))
"""Fast shutdown; immediate shutdown (the next start recovers); the end."""

_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "fsync": "on",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "cluster_name": "boltworks",
    "logging_collector": "on",
    "log_directory": "../log",
    "log_filename": "postgres-%Y%m%d-%H%M%S.log",
    "log_file_mode": "0600",
    "log_rotation_age": "1d",
    "log_rotation_size": f"{LOG_FILE_MAX_MB}MB",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


class Postmaster:
    """A running PostgreSQL; `ended` is set when it is gone, for whatever reason."""

    def __init__(self, process: subprocess.Popen[str], cluster: Path, on_end: Callable[[], None]) -> None:
        self._process = process
        self._pid_file = cluster / "postmaster.pid"
        self._on_end = on_end
        self.ended = threading.Event()
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    def accepts(self) -> bool:
        """Whether it takes connections, by its own word in postmaster.pid."""
        try:
            lines = self._pid_file.read_text().splitlines()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(self.pid)] and lines[_STATUS_LINE : _STATUS_LINE + 1] == [_READY]

    def stop(self) -> None:
        """Shut down and wait for the end: clients are cut off, what was committed is kept."""
        for stop_signal, wait_s in _STOP_STEPS:
            self._process.send_signal(stop_signal)
            if self.ended.wait(wait_s):
                return
            logger.warning("PostgreSQL did not stop within %.0f s of %s", wait_s, stop_signal.name)
        raise EmbeddedPostgresError(f"PostgreSQL (process {self.pid}) cannot be stopped: look at it, kill it by hand")

    def _wait(self) -> None:
        self._process.wait()
        self.ended.set()
        self._on_end()


def start_postmaster(programs: Programs, on_end: Callable[[], None]) -> Postmaster:
    """Start PostgreSQL on its cluster. It accepts connections later, when it has recovered.

    It inherits processes.lock, and on Linux shuts down by itself should this process be killed.
    `on_end` is called in a thread. What it says before its own log is open goes to our output.
    """
    files = programs.files
    socket_folder = files.socket_folder()
    make_private_folder(socket_folder, programs.account.uid, programs.account.gid)
    seen_socket_folder = programs.seen(socket_folder) if socket_folder == files.run else str(socket_folder)
    settings = {**_SETTINGS, "unix_socket_directories": _quoted(seen_socket_folder)}
    arguments = ["-D", programs.seen(files.cluster)]
    for name, value in settings.items():
        arguments += ["-c", f"{name}={value}"]
    process = programs.start(
        "postgres",
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=None,
        stderr=None,
        death_signal=signal.SIGINT,
    )
    return Postmaster(process, files.cluster, on_end)


def end_leftovers(files: ClusterFiles, processes_lock_fd: int) -> None:
    """Take processes.lock, which is free when nothing of an earlier PostgreSQL lives; stop what does.

    Then remove what such a server leaves behind and a new one may stumble over: its sockets, and a
    postmaster.pid whose number belongs to some other program by now. Raises EmbeddedPostgresError.
    """
    if not lock_within(processes_lock_fd, _LEFTOVER_GRACE_S):
        _stop_leftover(files, processes_lock_fd)
    pid = _postmaster_pid(files.cluster)
    if pid is not None and _works_in(pid, files.cluster):
        raise EmbeddedPostgresError(
            f"process {pid} is a PostgreSQL on {files.cluster} that was not started by boltworks: stop it first"
        )
    if pid is not None and sys.platform == "linux" and is_alive(pid):
        (files.cluster / "postmaster.pid").unlink(missing_ok=True)
    for folder in {files.run, files.socket_folder()}:
        if folder.is_dir() and not folder.is_symlink():
            for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
                (folder / name).unlink(missing_ok=True)


def prune_logs(log: Path) -> None:
    """Keep the newest `LOG_FILES_KEPT` files."""
    for old in sorted(log.glob("postgres-*.log"))[:-LOG_FILES_KEPT]:
        old.unlink(missing_ok=True)


def _stop_leftover(files: ClusterFiles, processes_lock_fd: int) -> None:
    for stop_signal, wait_s in _STOP_STEPS:
        if try_lock(processes_lock_fd):
            return
        pid = _postmaster_pid(files.cluster)
        if pid is not None and (sys.platform != "linux" or _works_in(pid, files.cluster)):
            logger.warning("PostgreSQL (process %d) has lost its supervisor: stopping it", pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, stop_signal)
        else:
            logger.warning("waiting for the processes of an earlier PostgreSQL to end")
        if lock_within(processes_lock_fd, wait_s):
            return
    raise EmbeddedPostgresError(
        f"processes of an earlier PostgreSQL on {files.cluster} do not end: find who holds {files.processes_lock} open"
    )


def _postmaster_pid(cluster: Path) -> int | None:
    try:
        return int((cluster / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def is_alive(pid: int) -> bool:
    """Whether there is such a process, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _works_in(pid: int, folder: Path) -> bool:
    """Whether the process has `folder` as its working directory, as a postmaster has its cluster (Linux only)."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False


def _quoted(folder: str) -> str:
    return '"' + folder.replace('"', '""') + '"'
