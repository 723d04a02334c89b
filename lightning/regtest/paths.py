"""Where things are kept. Read from the environment at the moment of the call, never at import."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Binaries that can be had again: `BOLTWORKS_CACHE_DIR`."""
    return _from_environment("BOLTWORKS_CACHE_DIR", Path("~/.cache/boltworks"))


def data_dir() -> Path:
    """What must not be lost: `BOLTWORKS_DATA_DIR`."""
    default = Path("/var/lib/boltworks") if os.geteuid() == 0 else Path("~/.local/share/boltworks")
    return _from_environment("BOLTWORKS_DATA_DIR", default)


def regtest_dir() -> Path:
    """The network's own directory: `BOLTWORKS_REGTEST_DIR`, else `regtest` in the data directory."""
    return _from_environment("BOLTWORKS_REGTEST_DIR", data_dir() / "regtest")


def _from_environment(name: str, default: Path) -> Path:
    return Path(os.environ.get(name) or default).expanduser().resolve()
