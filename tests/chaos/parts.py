"""The parts that are killed and frozen: our three processes, the gateway's LND, PostgreSQL. Each by its own id."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lightning.regtest.network import Network
from tests.chaos.log import EventLog
from tests.gateways import GatewayProcess

RESTART_S = 0.3


@dataclass
class Kept:
    """One of our processes, started again whenever it has ended, as a service manager does."""

    name: str
    process: GatewayProcess
    arguments: tuple[str, ...]
    log: EventLog
    killed: bool = False
    stopping: bool = False

    async def run(self) -> None:
        while not self.stopping:
            await self.process.start(*self.arguments, ready=False)
            assert self.process.process is not None
            code = await self.process.process.wait()
            if not self.stopping:
                self.log.tell("ended", part=self.name, code=code, by_us=self.killed)
            self.killed = False
            await asyncio.sleep(RESTART_S)

    @property
    def pid(self) -> int | None:
        running = self.process.process
        return None if running is None or running.returncode is not None else running.pid

    async def kill(self, _: float) -> None:
        if self.pid is not None:
            self.killed = True
            os.kill(self.pid, signal.SIGKILL)

    async def freeze(self, for_s: float) -> None:
        if (pid := self.pid) is not None:
            await frozen([pid], for_s)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.run())
        try:
            yield
        finally:
            self.stopping = True
            if self.pid is not None:
                await self.process.stop()
            await task


@dataclass
class Lnd:
    """The gateway's node."""

    network: Network

    async def kill(self, down_s: float) -> None:
        await asyncio.to_thread(self.network.kill, "gateway")
        await asyncio.sleep(down_s)
        await asyncio.to_thread(self.network.start, "gateway")
        await asyncio.to_thread(self.network.wait_ready, "gateway")
        await asyncio.to_thread(self.network.wait_channels)

    async def freeze(self, for_s: float) -> None:
        await asyncio.to_thread(self.network.pause, "gateway")
        try:
            await asyncio.sleep(for_s)
        finally:
            await asyncio.to_thread(self.network.resume, "gateway")


@dataclass
class Postgres:
    """The server that this run started in its own folder; its supervisor starts it again."""

    folder: Path

    def _postmaster(self) -> int | None:
        try:
            return int((self.folder / "postgres/cluster/postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None

    async def kill(self, _: float) -> None:
        if (pid := self._postmaster()) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def freeze(self, for_s: float) -> None:
        if (pid := self._postmaster()) is not None:
            await frozen([pid, *_children(pid)], for_s)


async def frozen(pids: list[int], for_s: float) -> None:
    """SIGSTOP, and SIGCONT come what may."""
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(for_s)
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry.name))
    return found


@dataclass
class Fault:
    """One kind of harm, done to one part; a part suffers one at a time."""

    name: str
    do: Callable[[float], Awaitable[None]]
    longest_s: float
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
