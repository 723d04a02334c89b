"""A command in a world of its own: no network, no other process, no file but what it needs. Linux, by namespaces.

util-linux opens them: `unshare` (network, processes, mounts, IPC, host name; and users, when we are not root) and
`setpriv` (dies with its parent, no new rights). Process 1 in there is ours (`command_init`): it builds the disk, sets
the limits, meters, and ends everybody. Killing it ends all of them, by the kernel.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.catalogue.model import CommandWork

NOBODY = 65_534
FIRST_OWN_UID, OWN_UIDS = 0x7000_0000, 0x0FFF_FFFF
"""Users that no system gives away (they end above what containers and systemd use, below the signed numbers' end)."""
MAX_OUTPUT_BYTES = 4 * 1024 * 1024
GRACE_S = 60.0
"""What building the world and leaving it may take, on top of the work's own time."""
END_S = 20.0
MAX_COMPLAINT_CHARACTERS = 500
TOOLS = ("unshare", "setpriv", "mount", "umount", "pivot_root")
TOOLS_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended. `end`: exit, cpu, memory, time, output, or `not isolated`: nothing was run.

    `code` is the exit code, negative for a signal. `complaint` is the end of stderr: for the operator, not for payers.
    """

    end: str
    code: int | None
    cpu_us: int
    output: bytes
    complaint: str


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`uid`, `gid`: as whom the namespaces are made. As root the command itself runs as a user of its own."""

    python: str = sys.executable
    uid: int = field(default_factory=os.geteuid)
    gid: int = field(default_factory=os.getegid)

    async def run(self, entry: CommandWork, command: Sequence[str], input: Mapping[str, Any]) -> Ended:
        """Run it to its end; cancelled, nothing of it is left when this returns."""
        process = await asyncio.create_subprocess_exec(
            *self.opening(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd="/",
            env=_environment(),
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(entry.timeout_s + GRACE_S):
                answer, complaint = await _asked(process, self.order(entry, command, input))
        except TimeoutError:
            return Ended("time", None, 0, b"", "process 1 did not answer")
        finally:
            await _end(process)
        return read_answer(answer, complaint)

    def opening(self) -> list[str]:
        """The command line that opens the namespaces and starts `command_init` in them."""
        mine = self.uid == os.geteuid()
        identity = [] if mine else [f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]
        users = [] if self.uid == 0 else ["--user", "--map-root-user"]
        rooms = ["--net", "--pid", "--ipc", "--uts", "--mount", *users]
        init = [self.python, "-P", "-S", "-m", "gateway.work.command_init"]
        return ["setpriv", "--pdeathsig=KILL", *identity, "--", "unshare", *rooms, "--kill-child", "--", *init]

    def order(self, entry: CommandWork, command: Sequence[str], input: Mapping[str, Any]) -> bytes:
        """One line of JSON: `command_init.Order`."""
        is_root = self.uid == 0
        uid, gid = own_user() if is_root else (self.uid, self.gid)
        content = {
            "command": list(command),
            "visible": list(entry.visible),
            "max_cpu_s": entry.price.max_cpu_s,
            "memory_mb": entry.memory_mb,
            "timeout_s": entry.timeout_s,
            "max_output_bytes": MAX_OUTPUT_BYTES,
            "uid": uid,
            "gid": gid,
            "is_root": is_root,
            "input": dict(input),
        }
        return json.dumps(content).encode() + b"\n"


def own_user() -> tuple[int, int]:
    """A user and group that no other run has: the kernel counts processes by user, and one run must not use up all.

    Where we are root of a container that has few users, it is nobody.
    """
    number = FIRST_OWN_UID + secrets.randbelow(OWN_UIDS)
    has_it = _is_mapped(number, "/proc/self/uid_map") and _is_mapped(number, "/proc/self/gid_map")
    return (number, number) if has_it else (NOBODY, NOBODY)


def _is_mapped(number: int, table: str) -> bool:
    """Each line: first inside, first outside, how many."""
    ranges = (line.split() for line in Path(table).read_text(encoding="utf-8").splitlines())
    return any(int(first) <= number < int(first) + int(count) for first, _, count in ranges)


async def _asked(process: asyncio.subprocess.Process, order: bytes) -> tuple[bytes, bytes]:
    """Hand over the order and read to the end; stdin stays open, its end would say that nobody waits."""
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise AssertionError("all are pipes")
    # It may have ended already, with its complaint on stderr. RuntimeError is uvloop's word for a closed pipe.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, RuntimeError):
        process.stdin.write(order)
        await process.stdin.drain()
    answer, complaint = await asyncio.gather(process.stdout.read(), process.stderr.read())
    return answer, complaint


async def _end(process: asyncio.subprocess.Process) -> None:
    """First ask process 1 to end everybody and wait for it; if it does not, the kernel does."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(END_S):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def read_answer(answer: bytes, complaint: bytes) -> Ended:
    """What process 1 said; without an answer it never got so far, and `complaint` is that of the tools."""
    if not answer:
        said = " ".join(complaint.decode(errors="replace").split())
        return Ended("not isolated", None, 0, b"", said[-MAX_COMPLAINT_CHARACTERS:] or "process 1 was killed")
    told = json.loads(answer)
    output = base64.b64decode(told.get("output", ""))
    said = " ".join(told["complaint"].split())[-MAX_COMPLAINT_CHARACTERS:]
    return Ended(told["end"], told.get("code"), told.get("cpu_us", 0), output, said)


def _environment() -> dict[str, str]:
    """For our own process 1: no secret of the gateway. What the command gets is smaller still."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    here = str(Path(__file__).resolve().parents[2])
    return kept | {"PATH": TOOLS_PATH, "PYTHONPATH": here, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
