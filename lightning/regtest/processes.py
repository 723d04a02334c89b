"""Detached processes: started in a session of their own, known again by pid and birth, ended politely first."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from lightning.regtest.state import ProcessId

POLL_EVERY_S: Final = 0.05
STOP_TIMEOUT_S: Final = 15.0
KILL_TIMEOUT_S: Final = 5.0
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

_children: list[subprocess.Popen[bytes]] = []
"""Those this very process started: somebody must collect them when they end."""


class ProcessWillNotEnd(Exception):
    """A process outlived SIGKILL."""


def spawn(argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> ProcessId:
    """Starts it detached, with its output appended to `log`. Raises OSError."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        child = subprocess.Popen(
            argv, env=env, cwd=log.parent, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    finally:
        os.close(file)
    _children.append(child)
    return ProcessId(child.pid, born(child.pid) or "")


def is_alive(process: ProcessId | None) -> bool:
    """Whether this very process still runs; a zombie and a stranger with its pid do not count."""
    _collect()
    return process is not None and bool(process.born) and born(process.pid) == process.born


def born(pid: int) -> str | None:
    """A word for when the process started, never the same for two with one pid; None when there is none."""
    if BOOT_ID.exists():
        return _born_on_linux(pid)
    listed = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=1)
    return listed[1].strip() if len(listed) == 2 and not listed[0].startswith("Z") else None


def _born_on_linux(pid: int) -> str | None:
    """A zombie whose other threads still end counts: it holds its ports until the last one is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *rest = stat.rpartition(")")[2].split()
    threads, started_ticks = int(rest[16]), rest[18]
    if state in ("Z", "X") and threads <= 1:
        return None
    return f"{BOOT_ID.read_text().strip()}:{started_ticks}"


def myself() -> ProcessId:
    return ProcessId(os.getpid(), born(os.getpid()) or "")


def send_signal(process: ProcessId | None, number: signal.Signals) -> bool:
    """Whether it was alive to receive it."""
    if process is None or not is_alive(process):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)
        return True
    return False


def stop(processes: Iterable[ProcessId | None], *, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """SIGTERM to all, then SIGKILL to those still there after `timeout_s`. Raises ProcessWillNotEnd."""
    living = [process for process in processes if is_alive(process)]
    for process in living:
        send_signal(process, signal.SIGTERM)
        send_signal(process, signal.SIGCONT)
    kill(wait_gone(living, timeout_s))


def kill(processes: Iterable[ProcessId | None]) -> None:
    """SIGKILL, and wait until they are gone. Raises ProcessWillNotEnd."""
    living = [process for process in processes if send_signal(process, signal.SIGKILL)]
    if left := wait_gone(living, KILL_TIMEOUT_S):
        raise ProcessWillNotEnd(f"still there after SIGKILL: {left}")


def wait_gone(processes: Iterable[ProcessId | None], timeout_s: float) -> list[ProcessId | None]:
    """Those still alive after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    living = [process for process in processes if is_alive(process)]
    while living and time.monotonic() < deadline:
        time.sleep(POLL_EVERY_S)
        living = [process for process in living if is_alive(process)]
    return living


def _collect() -> None:
    _children[:] = [child for child in _children if child.poll() is None]
