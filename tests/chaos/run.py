"""One run: faults and buyers side by side, then peace, then every book is compared with every other."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning.regtest.control import AsyncControl
from lightning.regtest.network import Network
from tests.chaos.faulty import Faults
from tests.chaos.load import Shopper, keep_buying
from tests.chaos.log import EventLog
from tests.chaos.plan import Fault, faults
from tests.chaos.tally import Tally, payers_lists, tally
from tests.chaos.world import World, open_world

COMMAND_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run is judged by, and its figures."""

    tally: Tally
    audit: dict[str, Any]
    reconciliation: dict[str, Any]
    kept_msat: int | None
    """What the payer's node lost over the run, by its channels' balance; not known when LND lost one of them."""
    kinds: dict[str, int]
    states: dict[str, int]
    faults: dict[str, int]
    checks: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def assert_right(self) -> None:
        assert self.tally.differences == []
        assert self.audit["clean"], self.audit["violations"]
        assert self.reconciliation["clean"], self.reconciliation
        assert (self.reconciliation["differenceMsat"], self.reconciliation["repaired"]) == (0, [])
        moved_msat = self.tally.paid_msat - self.tally.refunded_msat
        assert self.kept_msat in (moved_msat, None)
        assert moved_msat == self.tally.charged_msat or self.tally.stuck


async def run(
    folder: Path, network: Network, payer: AsyncControl, log_file: Path, *, seed: int, seconds: float, buyers: int
) -> Outcome:
    """Raises AssertionError for whatever is not as it must be; the event log stays."""
    log = EventLog(log_file)
    planned = faults(seed, seconds)
    log.write("run", seed=seed, seconds=seconds, buyers=buyers, planned=len(planned))
    try:
        async with open_world(folder, network, payer, log) as world:
            before = await payers_lists(world.payer_node)
            balance_msat = await payer.settled_balance_msat()
            log.begin()
            shoppers = await _both(world, planned, seed, seconds, buyers)
            log.write("quiet")
            left_msat = await _left_msat(payer, balance_msat)
            result = tally(shoppers, before, await payers_lists(world.payer_node))
            audit = await _command(world, "audit", "--json")
            reconciliation = await _command(world, "reconcile", "--json")
            outcome = _outcome(shoppers, planned, log, result, audit, reconciliation, left_msat)
            log.write("end", **outcome.to_dict())
            return outcome
    finally:
        log.close()


async def _both(world: World, planned: list[Fault], seed: int, seconds: float, buyers: int) -> list[Shopper]:
    """The shoppers, once the faults are over and each of them has come to an end."""
    async with asyncio.TaskGroup() as group:
        buying = group.create_task(keep_buying(world, seed, buyers))
        await Faults(world).run(planned)
        await asyncio.sleep(max(0.0, seconds - world.log.elapsed_s))
        world.stopping.set()
    return buying.result()


async def _left_msat(payer: AsyncControl, before_msat: int) -> int | None:
    """By how much the payer's channels fell; None when some of it lies in a channel that LND lost."""
    if not all((await payer.pending_htlcs()).values()):
        return None
    return before_msat - await payer.settled_balance_msat(timeout_s=60)


async def _command(world: World, *args: str) -> dict[str, Any]:
    """`boltworks …` as an operator calls it; what it printed."""
    gateway = world.gateway
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *args, env=gateway._env(), cwd=gateway.folder, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(COMMAND_TIMEOUT_S):
        out, _ = await process.communicate()
    return dict(json.loads(out))


def _outcome(
    shoppers: list[Shopper],
    planned: list[Fault],
    log: EventLog,
    result: Tally,
    audit: dict[str, Any],
    reconciliation: dict[str, Any],
    left_msat: int | None,
) -> Outcome:
    done = Counter({name: log.counts[name] for name in ("kill", "freeze", "skipped", "ended", "channels", "unknown")})
    return Outcome(
        tally=result,
        audit={"clean": audit["clean"], "violations": audit["violations"]},
        reconciliation=reconciliation,
        kept_msat=left_msat,
        kinds=dict(Counter(shopper.order.kind for shopper in shoppers)),
        states=dict(Counter(shopper.seen["state"] for shopper in shoppers)),
        faults=dict(done),
        checks=log.counts["check"],
    )
