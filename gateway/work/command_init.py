"""The first process of a command's own world: builds its root, runs it, meters it, and leaves nobody alive.

Standard library alone; process 1 of namespaces that `command_sandbox` opened. On stdin: the order, one line of JSON.
Stdin stays open as long as the work is wanted: its end says that nobody waits any more, whether the work was cancelled
or the gateway died. On stdout: one JSON object, `{end, code, cpu_us, output (base64), complaint}`.

Limits per process are the kernel's (RLIMIT); those of the whole tree (processor time, memory) are measured here,
because only a cgroup would keep them, and those are not everybody's to make. Once the root is built, Python's own
library may be out of sight: import everything at the top, and use no text encoding but UTF-8.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.work.command_root import OWN_FOLDERS, NotIsolatedError, build_root

ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
    "HOME": "/work",
    "TMPDIR": "/tmp",  # noqa: S108
    "LANG": "C.UTF-8",
}
OPEN_FILES = 256
PROCESSES = 256
COMPLAINT_BYTES = 2000
NICENESS = 10
"""The gateway goes first, and so does this process, which must see the limits passed even among many that are busy."""
PART_BYTES = 65_536
PARTS_A_ROUND = 32
POLL_S = 0.02
MEASURE_S = 0.1
MICROSECONDS = 1_000_000
KILLED = (-signal.SIGKILL, -signal.SIGXCPU)
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Order:
    """`uid` and `gid` are whom the command runs as. `is_root`: we are the machine's root, else one of a namespace."""

    command: tuple[str, ...]
    visible: tuple[str, ...]
    max_cpu_s: int
    memory_mb: int
    timeout_s: int
    max_output_bytes: int
    uid: int
    gid: int
    is_root: bool
    input: Any


@dataclass(slots=True)
class Run:
    """One command under way. `end` is why it ended, None while it runs; `code` is its own exit code, if it had one."""

    order: Order
    process: subprocess.Popen[bytes]
    output: bytearray = field(default_factory=bytearray)
    complaint: bytearray = field(default_factory=bytearray)
    end: str | None = None
    code: int | None = None


def main() -> None:
    signal.signal(signal.SIGINT, lambda *_: None)  # the command may send it; all else process 1 is spared
    order = Order(**json.loads(sys.stdin.buffer.readline()))
    answer: dict[str, Any]
    try:
        build_root(order.visible, order.memory_mb, (order.uid, order.gid) if order.is_root else (0, 0))
        if not order.is_root:
            # One more user namespace is needed, to be no root in it; the command shall open none.
            Path("/proc/sys/user/max_user_namespaces").write_text("1", encoding="utf-8")
        answer = run(order)
    except (NotIsolatedError, OSError, subprocess.SubprocessError) as error:
        answer = {"end": "not isolated", "complaint": str(error)}
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(answer))
        sys.stdout.flush()


def run(order: Order) -> dict[str, Any]:
    cpu_before_us = reaped_cpu_us()
    running = Run(order, started(order))
    watch(running, cpu_before_us)
    end_all(running)
    read_ready(running)
    cpu_us = reaped_cpu_us() - cpu_before_us
    if running.code in KILLED and cpu_us >= order.max_cpu_s * MICROSECONDS:
        running.end = "cpu"
    return {
        "end": running.end,
        "code": running.code,
        "cpu_us": cpu_us,
        "output": base64.b64encode(running.output if running.end == "exit" else b"").decode(),
        "complaint": running.complaint.decode(errors="replace"),
    }


def started(order: Order) -> subprocess.Popen[bytes]:
    question = os.memfd_create("input")
    with open(question, "wb", closefd=False) as file:
        file.write(json.dumps(order.input, ensure_ascii=False).encode())
    os.lseek(question, 0, os.SEEK_SET)
    process = subprocess.Popen(
        [*stepping_down(order), *order.command],
        stdin=question,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/work",
        env=ENVIRONMENT,
        preexec_fn=lambda: prepare(order),  # safe: this process has one thread
    )
    os.close(question)
    for pipe in pipes_of(process):
        os.set_blocking(pipe, False)
    return process


def stepping_down(order: Order) -> list[str]:
    """What is put before the command so that it has no right that an ordinary user has not, and can gain none."""
    if order.is_root:
        identity = [f"--reuid={order.uid}", f"--regid={order.gid}", "--clear-groups"]
        powers = ["--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all"]
        return ["setpriv", *identity, *powers, "--no-new-privs", "--"]
    identity = [f"--map-user={order.uid}", f"--map-group={order.gid}"]
    return ["unshare", "--user", *identity, "--", "setpriv", "--no-new-privs", "--"]


def prepare(order: Order) -> None:
    """In the command's process, before anything of it runs."""
    memory_bytes = order.memory_mb * 1024**2
    limits = (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, memory_bytes),
        (resource.RLIMIT_CPU, order.max_cpu_s + 1),  # counted in ticks: ours comes first, and is exact
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, PROCESSES),
        (resource.RLIMIT_CORE, 0),
    )
    for kind, limit in limits:
        hardest = resource.getrlimit(kind)[1]
        least = limit if hardest == resource.RLIM_INFINITY else min(limit, hardest)
        resource.setrlimit(kind, (least, least))
    os.nice(NICENESS)
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")
    if order.is_root:
        for stream in range(3):
            os.fchown(stream, order.uid, order.gid)


def watch(running: Run, cpu_before_us: int) -> None:
    """Returns when the command ended by itself or has to be ended; `running.end` says which."""
    order = running.order
    ends_at = time.monotonic() + order.timeout_s
    measured_at = 0.0
    with selectors.DefaultSelector() as ready:
        ready.register(sys.stdin.buffer, selectors.EVENT_READ)
        while running.end is None:
            if ready.select(POLL_S):
                running.end = "not wanted"
            read_ready(running)
            reap(running)
            now = time.monotonic()
            if now >= ends_at:
                running.end = running.end or "time"
            if now >= measured_at + MEASURE_S:
                measured_at = now
                running.end = running.end or excess(order, cpu_before_us)


def read_ready(running: Run) -> None:
    """Take what the command has written so far. Too much of it ends the command."""
    output, complaint = pipes_of(running.process)
    for part in parts(output):
        running.output += part
        if len(running.output) > running.order.max_output_bytes:
            running.output.clear()
            running.end = "output"
            return
    for part in parts(complaint):
        running.complaint[:] = (running.complaint + part)[-COMPLAINT_BYTES:]


def parts(pipe: int) -> Iterator[bytes]:
    """What is there, but not for ever: a program may write faster than we read, and the limits must be looked at."""
    with suppress(BlockingIOError):
        for _ in range(PARTS_A_ROUND):
            if not (part := os.read(pipe, PART_BYTES)):
                return
            yield part


def pipes_of(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    if process.stdout is None or process.stderr is None:
        raise AssertionError("both are pipes")
    return process.stdout.fileno(), process.stderr.fileno()


def reap(running: Run) -> None:
    """Bury who has ended: the command, and orphans that became ours."""
    with suppress(ChildProcessError):
        for _ in range(PROCESSES):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            note(running, pid, status)


def note(running: Run, pid: int, status: int) -> None:
    if pid == running.process.pid:
        running.code = running.process.returncode = os.waitstatus_to_exitcode(status)
        running.end = running.end or "exit"


def end_all(running: Run) -> None:
    """Kill everybody here but ourselves and wait for each, so that all their processor time is counted."""
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            note(running, *os.waitpid(-1, 0))


def excess(order: Order, cpu_before_us: int) -> str | None:
    """What the whole tree has used up, if anything."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal() and entry.name != "1"]
    cpu_us = reaped_cpu_us() - cpu_before_us + sum(map(living_cpu_us, pids))
    if cpu_us >= order.max_cpu_s * MICROSECONDS:
        return "cpu"
    left_bytes = order.memory_mb * 1024**2 - sum(map(stored_in, OWN_FOLDERS))
    too_much = sum(map(resident_in, pids)) > left_bytes and sum(map(share_of, pids)) > left_bytes
    return "memory" if too_much else None


def reaped_cpu_us() -> int:
    """User and system time of all that was waited for, by us or by those we waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(usage.ru_utime * MICROSECONDS) + round(usage.ru_stime * MICROSECONDS)


def living_cpu_us(pid: int) -> int:
    """Of a process and of those it waited for; 0 when it is gone, because then it is counted elsewhere."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(map(int, fields[11:15])) * MICROSECONDS // TICKS


def resident_in(pid: int) -> int:
    """Bytes, what is shared with others included; 0 when the process is gone. Quick to ask."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize()
    except (FileNotFoundError, ProcessLookupError):
        return 0


def share_of(pid: int) -> int:
    """Bytes, what is shared counted in parts. Slow to ask; where we may not, all that is resident."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except PermissionError:
        return resident_in(pid)
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def stored_in(folder: str) -> int:
    disk = os.statvfs(folder)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


if __name__ == "__main__":
    main()
