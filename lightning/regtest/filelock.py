"""One process at a time, by `flock`: freed by the kernel when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

RETRY_EVERY_S: Final = 0.1


@contextmanager
def locked(path: Path, *, while_waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds the lock on `path` (created, mode 0600) for the block; calls `while_waiting` at each vain try."""
    while (file := _try_lock(path)) is None:
        if while_waiting is not None:
            while_waiting()
        time.sleep(RETRY_EVERY_S)
    try:
        yield
    finally:
        os.close(file)


def _try_lock(path: Path) -> int | None:
    """The open, locked file; None when another holds it, or removed it while we looked."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(file).st_ino:
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(file)
    return None
