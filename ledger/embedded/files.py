"""Where things lie in DATA_DIR/postgres, and how private they are."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pwd
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from ledger.embedded.errors import EmbeddedPostgresError

PORT = 5432
"""Only the name of the socket: nothing listens on TCP."""
SUPERUSER = "postgres"
ROLE = "boltworks"
DATABASE = "boltworks"

_SOCKET_NAME = f".s.PGSQL.{PORT}"
_SOCKET_PATH_MAX_BYTES = 107 if sys.platform == "linux" else 103
_SUPERVISOR_LOG_MAX_BYTES = 1_000_000
_SHORT_FOLDERS = Path("/tmp")  # noqa: S108  (a 0700 folder of ours is made in it, owner and mode are checked)


@dataclass(frozen=True, slots=True)
class ClusterFiles:
    """Names inside DATA_DIR/postgres. The folder itself and its locks and passwords belong to who started it
    first; `cluster`, `init`, `run` and `log` belong to the user that PostgreSQL runs as."""

    folder: Path

    @classmethod
    def of(cls, data_dir: Path) -> ClusterFiles:
        return cls(data_dir.resolve() / "postgres")

    @property
    def cluster(self) -> Path:
        return self.folder / "cluster"

    @property
    def init(self) -> Path:
        """A cluster in the making; renamed to `cluster` when it is whole."""
        return self.folder / "init"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def supervisor_log(self) -> Path:
        return self.folder / "supervisor.log"

    @property
    def users_lock(self) -> Path:
        return self.folder / "users.lock"

    @property
    def supervisor_lock(self) -> Path:
        return self.folder / "supervisor.lock"

    @property
    def processes_lock(self) -> Path:
        return self.folder / "processes.lock"

    def password(self, role: str) -> Path:
        return self.folder / f"{role}.password"

    def socket_folder(self) -> Path:
        """`run`, or a short folder in /tmp when the path of a socket in `run` would be too long for the kernel."""
        if len(os.fsencode(self.run / _SOCKET_NAME)) <= _SOCKET_PATH_MAX_BYTES:
            return self.run
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return _SHORT_FOLDERS / f"boltworks-{self.folder.stat().st_uid}-{digest}"


def make_folder(files: ClusterFiles) -> None:
    """Make DATA_DIR/postgres, for us alone. What is there already keeps its mode and owner.

    Raises EmbeddedPostgresError when the folder is somebody else's.
    """
    try:
        files.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.folder.mkdir(mode=0o700, exist_ok=True)
        owner_uid = files.folder.stat().st_uid
    except OSError as error:
        raise EmbeddedPostgresError(f"cannot make the folder {files.folder}: {error.strerror}") from error
    if os.geteuid() not in (0, owner_uid):
        raise EmbeddedPostgresError(
            f"{files.folder} belongs to {user_name(owner_uid)}: run as that user, or choose another data directory"
        )


def open_private(path: Path) -> int:
    """Open a file of ours for reading and writing, made with mode 0600 when missing; never follows a link.

    Made by root in a folder of another user, the file is that user's.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    owner = path.parent.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(fd, owner.st_uid, owner.st_gid)
    return fd


def open_supervisor_log(files: ClusterFiles) -> int:
    """Open the supervisor's log for appending; an over-long one is put aside first."""
    log = files.supervisor_log
    if log.exists() and log.stat().st_size > _SUPERVISOR_LOG_MAX_BYTES:
        log.replace(log.with_suffix(".log.1"))
    fd = open_private(log)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    return fd


def write_private(path: Path, text: str) -> None:
    """Replace a file of ours (0600) as a whole; it is on the disk when this returns."""
    new = path.with_name(path.name + ".new")
    fd = open_private(new)
    with os.fdopen(fd, "w") as file:
        file.truncate()
        file.write(text)
        file.flush()
        os.fsync(fd)
    new.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_private_folder(path: Path, uid: int, gid: int) -> None:
    """Make a folder of mode 0700 for `uid`, or check the one that is there (`check_private_folder`)."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    made_by_root = os.geteuid() == 0 and found.st_uid == 0 and stat.S_ISDIR(found.st_mode)
    if made_by_root and uid != 0:
        os.chown(path, uid, gid, follow_symlinks=False)
    check_private_folder(path, uid)


def check_private_folder(path: Path, uid: int) -> None:
    """Raises EmbeddedPostgresError unless `path` is a real folder of `uid` that nobody else can enter."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or stat.S_IMODE(found.st_mode) != 0o700:
        raise EmbeddedPostgresError(
            f"{path} should be a folder of {user_name(uid)} with mode 0700 and is not: look who made it, then remove it"
        )


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"
