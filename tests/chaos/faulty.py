"""Does what the plan says: kills and freezes, heals again, and has the books checked after each."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field

from ledger.database import DATABASE_AWAY
from lightning.regtest.network import RegtestError
from lightning.types import NodeUnavailable
from tests.chaos.plan import TARGETS, Fault
from tests.chaos.world import World, postgres_processes
from tests.checks import compare_under_load, violations

LND_READY_S = 180.0
CHANNELS_READY_S = 15.0


@dataclass
class Faults:
    world: World
    _busy: dict[str, asyncio.Lock] = field(default_factory=lambda: {name: asyncio.Lock() for name in TARGETS})
    _checking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, planned: list[Fault]) -> None:
        """All at their times; returns once everything is well again."""
        async with asyncio.TaskGroup() as group:
            for fault in planned:
                await asyncio.sleep(max(0.0, fault.at_s - self.world.log.elapsed_s))
                group.create_task(self._one(fault))

    async def _one(self, fault: Fault) -> None:
        lock = self._busy[fault.target]
        if lock.locked() or not self._is_up(fault.target):
            self.world.log.write("skipped", who=fault.target, why="it is down or frozen already")
            return
        async with lock:
            self.world.log.write(fault.does, who=fault.target, for_s=fault.for_s)
            await (self._kill(fault) if fault.does == "kill" else self._freeze(fault))
            self.world.log.write("healed", who=fault.target)
        await self.check()

    def _is_up(self, target: str) -> bool:
        kept = self.world.kept.get(target)
        if kept is not None:
            return kept.lives
        return target != "postgres" or (self.world.postgres.files.cluster / "postmaster.pid").exists()

    async def _kill(self, fault: Fault) -> None:
        world = self.world
        if fault.target == "lnd":
            await asyncio.to_thread(world.network.kill, "gateway")
            await asyncio.sleep(fault.for_s)
            await asyncio.to_thread(world.network.start, "gateway")
            await asyncio.to_thread(world.network.wait_ready, "gateway", LND_READY_S)
            await self._channels_are_back()
        elif fault.target == "postgres":
            killed = postgres_processes(world.postgres)[0]
            os.kill(killed, signal.SIGKILL)
            await self._postgres_is_another(killed)
            await self._postgres_answers()
        else:
            world.kept[fault.target].kill(fault.for_s)
            await asyncio.sleep(fault.for_s)

    async def _channels_are_back(self) -> None:
        """All, or after a while at least one: LND itself can lose a channel to a SIGKILL (docs/chaos.md)."""
        try:
            await asyncio.to_thread(self.world.network.wait_channels, CHANNELS_READY_S)
        except RegtestError:
            active = (await self.world.payer.facts()).active_channels
            self.world.log.write("channels", active=active)
            assert active, "LND lost every channel: nothing can be paid any more"

    async def _postgres_is_another(self, killed: int) -> None:
        """A backend may outlive its postmaster for a moment, and answer: that is no new server yet."""
        async with asyncio.timeout(LND_READY_S):
            while True:
                try:
                    if postgres_processes(self.world.postgres)[0] != killed:
                        return
                except (FileNotFoundError, ValueError):
                    pass  # between the two servers
                await asyncio.sleep(0.05)

    async def _postgres_answers(self) -> None:
        async with asyncio.timeout(LND_READY_S):
            while True:
                try:
                    async with asyncio.timeout(5):
                        await self.world.pool.fetchval("select 1")
                    return
                except DATABASE_AWAY:
                    await asyncio.sleep(0.1)

    async def _freeze(self, fault: Fault) -> None:
        world = self.world
        if fault.target == "lnd":
            await asyncio.to_thread(world.network.pause, "gateway")
            await asyncio.sleep(fault.for_s)
            await asyncio.to_thread(world.network.resume, "gateway")
        elif fault.target == "postgres":
            await self._freeze_postgres(fault.for_s)
        else:
            kept = world.kept[fault.target]
            kept.signal(signal.SIGSTOP)
            await asyncio.sleep(fault.for_s)
            kept.signal(signal.SIGCONT)

    async def _freeze_postgres(self, for_s: float) -> None:
        postmaster = postgres_processes(self.world.postgres)[0]
        os.kill(postmaster, signal.SIGSTOP)
        stopped = [pid for pid in postgres_processes(self.world.postgres)[1:] if _send(pid, signal.SIGSTOP)]
        try:
            await asyncio.sleep(for_s)
        finally:
            for pid in [*stopped, postmaster]:
                _send(pid, signal.SIGCONT)

    async def check(self) -> None:
        """Under load. What can not be asked just now is unknown, and said so; the end of the run asks again."""
        if self._checking.locked():
            return
        async with self._checking:
            try:
                async with asyncio.timeout(60):
                    broken = await violations(self.world.pool)
                    seen = await compare_under_load(self.world.pool, self.world.node)
            except (*DATABASE_AWAY, NodeUnavailable) as error:
                self.world.log.write("unknown", why=type(error).__name__)
                return
        self.world.log.write(
            "check",
            violations=[f"{v.invariant}: {v.subject}: {v.detail}" for v in broken],
            differences=[f"{f.kind}: {f.payment_hash.hex()}: {f.detail}" for f in seen.differences],
            unexplainedMsat=seen.unexplained_msat,
            unbooked=seen.unbooked,
            underWayMsat=seen.under_way_msat,
        )
        assert not broken, broken
        assert not seen.differences, seen.differences
        assert seen.unexplained_msat == 0, seen


def _send(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
