"""The user that PostgreSQL runs as: the caller, or, because PostgreSQL refuses root, a system user of our own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ledger.embedded.errors import EmbeddedPostgresError
from ledger.embedded.locks import wait_for_lock

SYSTEM_USER = "boltworks"
USERADD_LOCKED = (1, 10)
"""useradd's exit codes while another program holds its files."""
LOCK_PATIENCE_S = 10.0
FIRST_START_LOCK = Path("/run/boltworks-useradd.lock")
"""One first start makes the system user. useradd looks for the name before it locks its files: of two at the same
time the second writes over the first one's number, and a server that was begun under that runs as nobody."""


@dataclass(frozen=True, slots=True)
class Account:
    uid: int
    gid: int

    @property
    def is_caller(self) -> bool:
        return self.uid == os.geteuid()


def server_account(folder: Path) -> Account:
    """Who runs PostgreSQL on DATA_DIR/postgres: the caller; for root, the folder's owner or the system user.

    Raises EmbeddedPostgresError when the system user is missing and cannot be made.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    owner = folder.stat()
    if owner.st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    found = _lookup(SYSTEM_USER) or _the_system_user()
    if found.uid == 0:
        raise EmbeddedPostgresError(f"the system user {SYSTEM_USER} is root itself: PostgreSQL refuses to run as root")
    return found


def can_enter(account: Account, folder: Path) -> bool:
    """Whether `account` may pass through `folder` and all its parents (asked of the kernel, by a process of theirs)."""
    return _can_access(account, folder)


def can_run(account: Account, program: Path) -> bool:
    """Whether `account` may execute `program` where it lies."""
    return _can_access(account, program)


def _can_access(account: Account, path: Path) -> bool:
    if account.is_caller:
        return os.access(path, os.X_OK)
    asked = subprocess.run(
        ["test", "-x", str(path)], user=account.uid, group=account.gid, extra_groups=[], cwd="/", check=False
    )
    return asked.returncode == 0


def _lookup(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(entry.pw_uid, entry.pw_gid)


def _the_system_user() -> Account:
    with _one_first_start():
        return _lookup(SYSTEM_USER) or _make_system_user()


@contextmanager
def _one_first_start() -> Iterator[None]:
    try:
        lock = os.open(FIRST_START_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _not_made(f"{FIRST_START_LOCK}: {error.strerror}") from error
    try:
        wait_for_lock(lock)
        yield
    finally:
        os.close(lock)


def _make_system_user() -> Account:
    search = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    useradd = shutil.which("useradd", path=search)
    if useradd is None:
        raise _not_made("no useradd on this system")
    nologin = shutil.which("nologin", path=search) or "/bin/false"
    options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", nologin]
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        made = subprocess.run([useradd, *options, SYSTEM_USER], capture_output=True, text=True, check=False)
        if (found := _lookup(SYSTEM_USER)) is not None:
            return found
        if made.returncode not in USERADD_LOCKED or time.monotonic() > deadline:
            raise _not_made(" ".join(made.stderr.split()) or f"useradd ended with {made.returncode}")
        time.sleep(0.1)


def _not_made(why: str) -> EmbeddedPostgresError:
    return EmbeddedPostgresError(
        f"cannot make the system user {SYSTEM_USER} that PostgreSQL needs when started by root: {why}; "
        f"make it by hand (useradd --system {SYSTEM_USER}), run as another user, or set BOLTWORKS_DATABASE_URL"
    )
