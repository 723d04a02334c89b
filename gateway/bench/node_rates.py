"""Rates beside raw LND: each round is done raw, then by the gateway, in turns, so that a busy machine hits both."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gateway.bench.node_world import PRICE_SATS, BenchWorld
from lightning.types import PaymentOutcome, Settled

T = TypeVar("T")
R = TypeVar("R")

COST_SATS = 30
"""Of a job that leaves a refund."""
WAITING = "awaiting_work_payment"


@dataclass(slots=True)
class Side:
    """One of the two in a row."""

    done: int = 0
    took_s: float = 0.0
    cpu_s: Counter[str] = field(default_factory=Counter)
    """Processor time by who spent it."""

    @property
    def per_s(self) -> float:
        return self.done / self.took_s

    @property
    def cpu_ms_each(self) -> dict[str, float]:
        """Of one operation, by who spent it, and of all together."""
        each = {name: spent_s / self.done * 1000 for name, spent_s in self.cpu_s.items()}
        return {**each, "all": sum(each.values())}

    async def timed(self, work: Awaitable[list[Any]], spent_s: Callable[[], Counter[str]]) -> None:
        loop = asyncio.get_running_loop()
        start, spent_before_s = loop.time(), spent_s()
        self.done += len(await work)
        self.took_s += loop.time() - start
        spent = spent_s()
        spent.subtract(spent_before_s)
        self.cpu_s.update(spent)


@dataclass(slots=True)
class Row:
    raw: Side = field(default_factory=Side)
    ours: Side = field(default_factory=Side)

    @property
    def ratio(self) -> float:
        return self.ours.per_s / self.raw.per_s

    @property
    def cpu_ratio(self) -> float:
        """Processor time of raw to that of ours: what the ratio of rates can be at most where no core is idle."""
        return self.raw.cpu_ms_each["all"] / self.ours.cpu_ms_each["all"]


@dataclass(slots=True)
class Told:
    """How long after LND's own event the gateway's client was told, in seconds."""

    lags_s: list[float] = field(default_factory=list)

    def quantile_ms(self, share: float) -> float:
        lags = sorted(self.lags_s)
        return lags[min(len(lags) - 1, int(len(lags) * share))] * 1000


async def at_once(count: int, items: Iterable[T], call: Callable[[T], Awaitable[R]]) -> list[R]:
    """All of them, so many at a time, each begun as soon as one has ended; answers in no order."""
    waiting, answers = iter(items), []

    async def one_after_another() -> None:
        for item in waiting:
            answers.append(await call(item))

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one_after_another())
    return answers


def must_settle(outcome: PaymentOutcome) -> None:
    if not isinstance(outcome, Settled):
        raise RuntimeError(f"a payment of the benchmark did not arrive: {outcome}")


async def invoices(world: BenchWorld, *, rounds: int, each: int) -> Row:
    """Creation of an invoice: `AddInvoice`, and `POST /api/jobs`. 32 at once."""
    row = Row()

    async def raw(_: int) -> str:
        return (await world.raw_invoice())[0]

    async def ours(_: int) -> dict[str, Any]:
        return await world.buy()

    for _ in range(rounds):
        await row.raw.timed(at_once(32, range(each), raw), world.spent_s)
        await row.ours.timed(at_once(32, range(each), ours), world.spent_s)
    return row


async def received(world: BenchWorld, told: Told, *, rounds: int, each: int) -> Row:
    """Create, pay, be told of it: by LND's event, and by the job's own event stream. 16 at once."""
    row = Row()

    async def raw(_: int) -> None:
        request, payment_hash = await world.raw_invoice()
        must_settle(await world.pay(world.payer, request))
        await world.until_settled(payment_hash)

    async def ours(_: int) -> None:
        job = await world.buy()
        listening = asyncio.Event()
        telling = asyncio.create_task(world.told(job, lambda seen: seen["state"] != WAITING, listening))
        await listening.wait()
        must_settle(await world.pay(world.payer, job["invoice"]["paymentRequest"]))
        payment_hash = bytes.fromhex(job["invoice"]["paymentHash"])
        told_at = await telling
        await world.until_settled(payment_hash)
        told.lags_s.append(told_at - world.settled_at[payment_hash])

    for _ in range(rounds):
        await row.raw.timed(at_once(16, range(each), raw), world.spent_s)
        await row.ours.timed(at_once(16, range(each), ours), world.spent_s)
    return row


async def owing(world: BenchWorld, count: int) -> list[dict[str, Any]]:
    """Jobs that were paid and worked for, each with a refund that waits for its destination."""

    async def one(_: int) -> dict[str, Any]:
        job = await world.buy(COST_SATS)
        must_settle(await world.pay(world.payer, job["invoice"]["paymentRequest"]))
        await world.told(job, lambda seen: bool(seen["refundState"] == "pending"))
        return job

    return await at_once(16, range(count), one)


async def sent(world: BenchWorld, *, rounds: int, each: int) -> Row:
    """Outgoing payments: `SendPaymentV2`, and a refund from its claim until the job says paid. 16 at once."""
    row, back_sats = Row(), PRICE_SATS - COST_SATS

    async def raw(request: str) -> None:
        must_settle(await world.pay(world.node, request))

    async def ours(owed: tuple[dict[str, Any], str]) -> None:
        job, request = owed
        await world.refund(job, request)
        await world.told(job, lambda seen: bool(seen["refundState"] == "paid"))

    for _ in range(rounds):
        jobs = await owing(world, each)
        requests = [await world.payers_invoice(back_sats) for _ in range(2 * each)]
        await row.raw.timed(at_once(16, requests[:each], raw), world.spent_s)
        await row.ours.timed(at_once(16, zip(jobs, requests[each:], strict=True), ours), world.spent_s)
    return row
