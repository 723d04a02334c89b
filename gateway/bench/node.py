"""`bench node`: the gateway beside the raw LND under it, interleaved in one run, with what a SIGKILL leaves wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.bench import node_faults, node_rates
from gateway.bench.node_faults import Left
from gateway.bench.node_rates import Row, Told
from gateway.bench.node_world import open_bench


@dataclass(frozen=True, slots=True)
class Goal:
    says: str
    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


GOALS = {
    "invoice_creation": Goal("invoice creation, 32 at once: ours to raw", at_least=0.60),
    "create_pay_told": Goal("create + pay + told of it, 16 at once: ours to raw", at_least=0.90),
    "told_behind_lnd_p50_ms": Goal("told of a settlement, behind LND's own event, p50 ms", at_most=10),
    "outgoing_payments": Goal("outgoing payments, 16 at once: ours to raw", at_least=0.85),
    "uncredited_after_kill": Goal("SIGKILL while 40 payments come in: settled, uncredited", at_most=0),
    "wrong_sends_after_kill": Goal("SIGKILL with 12 sends in flight: wrong", at_most=0),
    "malformed_5xx": Goal("malformed bodies answered with 5xx", at_most=0),
    "malformed_accepted": Goal("malformed amounts accepted", at_most=0),
}


async def run_node(folder: Path, *, scale: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Everything in `folder`. `scale` multiplies how much is measured."""
    tell("starting bitcoind, two LND, PostgreSQL and the gateway …")
    async with open_bench(folder) as world:
        told = Told()
        # Once unmeasured: connections, statements and channels are warm on both sides.
        await node_rates.received(world, Told(), rounds=1, each=16)
        await node_rates.sent(world, rounds=1, each=32)
        tell("create, pay, be told …")
        received = await node_rates.received(world, told, rounds=3 * scale, each=64)
        tell("outgoing payments …")
        sent = await node_rates.sent(world, rounds=3 * scale, each=48)
        tell("SIGKILL while payments come in …")
        incoming = await node_faults.killed_while_paid(world)
        tell("SIGKILL with sends in flight …")
        sends = await node_faults.killed_while_sending(world)
        tell("malformed bodies …")
        bodies = await node_faults.malformed(world)
        tell("invoice creation …")
        invoices = await node_rates.invoices(world, rounds=4 * scale, each=160)
    values = {
        "invoice_creation": round(invoices.ratio, 2),
        "create_pay_told": round(received.ratio, 2),
        "told_behind_lnd_p50_ms": round(told.quantile_ms(0.5), 1),
        "outgoing_payments": round(sent.ratio, 2),
        "uncredited_after_kill": incoming.at_last,
        "wrong_sends_after_kill": sends.at_last,
        "malformed_5xx": len(bodies.faults),
        "malformed_accepted": len(bodies.accepted),
    }
    return {
        "ratios": values,
        "met": {name: GOALS[name].is_met(value) for name, value in values.items()},
        "perS": {name: _rates(row) for name, row in _rows(invoices, received, sent).items()},
        "cpuMsEach": {name: _cpu(row) for name, row in _rows(invoices, received, sent).items()},
        "toldBehindLndMs": {"p50": values["told_behind_lnd_p50_ms"], "p99": round(told.quantile_ms(0.99), 1)},
        "killedWhilePaid": _left(incoming),
        "killedWhileSending": _left(sends),
        "malformed": {"sent": bodies.sent, "faults": bodies.faults, "accepted": bodies.accepted},
    }


def _rows(invoices: Row, received: Row, sent: Row) -> dict[str, Row]:
    return {"invoice_creation": invoices, "create_pay_told": received, "outgoing_payments": sent}


def _rates(row: Row) -> dict[str, float]:
    return {"raw": round(row.raw.per_s, 1), "ours": round(row.ours.per_s, 1), "each": row.raw.done}


def _cpu(row: Row) -> dict[str, Any]:
    """Processor time of one operation by who spent it, and raw's to ours: with no core idle, rates do no better."""
    sides = {"raw": row.raw, "ours": row.ours}
    spent = {side: {name: round(ms, 2) for name, ms in s.cpu_ms_each.items()} for side, s in sides.items()}
    return {**spent, "rawToOurs": round(row.cpu_ratio, 2)}


def _left(left: Left) -> dict[str, Any]:
    after = left.right_after_s
    return {
        "inAll": left.in_all,
        "wrongWhenBack": left.at_first,
        "wrongAtTheEnd": left.at_last,
        "rightAfterS": None if after is None else round(after, 2),
    }
