"""Advisory locks on files (`flock`): the kernel lets go of them however their holder ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from ledger.embedded.files import open_private

_POLL_S = 0.01


def try_lock(fd: int, *, shared: bool = False) -> bool:
    """Take the lock, or turn a held one into the other kind, if that needs no waiting.

    A lock that is held already and cannot be turned is lost (the kernel lets go of it first).
    """
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_within(fd: int, timeout_s: float, *, shared: bool = False) -> bool:
    """Wait for the lock for at most `timeout_s`; blocks the thread."""
    deadline = time.monotonic() + timeout_s
    while not try_lock(fd, shared=shared):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def wait_for_lock(fd: int) -> None:
    """Wait for as long as it takes to hold the lock alone; blocks the thread."""
    fcntl.flock(fd, fcntl.LOCK_EX)


def is_held(path: Path) -> bool:
    """Whether some process holds the lock for itself alone."""
    fd = open_private(path)
    try:
        return not try_lock(fd, shared=True)
    finally:
        os.close(fd)
