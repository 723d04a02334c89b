"""The fake node's knobs; what it shares with real LND is in the contract tests."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from ledger.money import Msat
from lightning.fake import FakeNode
from lightning.types import (
    CancelOutcome,
    Failed,
    FailureReason,
    InFlight,
    InvoiceState,
    NodeUnavailable,
    NotFound,
    PaymentOutcome,
    Settled,
    Unknown,
)

PREIMAGE = b"\x05" * 32
HASH = hashlib.sha256(PREIMAGE).digest()


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


async def send(node: FakeNode, payment_request: str) -> PaymentOutcome:
    return await node.send_payment(
        payment_request,
        amount_msat=None,
        fee_limit_msat=Msat(0),
        cltv_limit=432,
        timeout_s=5,
        deadline_s=5,
    )


async def test_an_invoice_expires_by_the_clock_it_was_given() -> None:
    clock = Clock()
    node = FakeNode(now=clock)
    invoice = await node.add_invoice(PREIMAGE, Msat(5000), "memo", 60)
    assert invoice.expires_at == clock.now + timedelta(seconds=60)
    clock.now += timedelta(seconds=60)
    found = await node.lookup_invoice(HASH)
    assert found is not None
    assert found.state is InvoiceState.CANCELED


async def test_an_overpayment_shows_what_was_paid() -> None:
    node = FakeNode()
    await node.add_invoice(PREIMAGE, Msat(5000), "memo", 60)
    assert node.settle(HASH, 7000).amount_paid_msat == 7000
    with pytest.raises(ValueError, match="settled"):
        node.settle(HASH)


async def test_a_broken_stream_raises_and_the_backlog_is_found_again() -> None:
    node = FakeNode()
    first, second = (hashlib.sha256(bytes([i]) * 32).digest() for i in (1, 2))
    for i in (1, 2):
        await node.add_invoice(bytes([i]) * 32, Msat(5000), "memo", 60)
    async with aclosing(node.subscribe_settlements(0)) as stream:
        reading = asyncio.ensure_future(anext(stream))
        await node.subscribed()
        node.settle(first)
        assert (await reading).payment_hash == first
        node.go_unavailable()
        with pytest.raises(NodeUnavailable):
            await anext(stream)
    node.settle(second)
    with pytest.raises(NodeUnavailable):
        await node.lookup_invoice(second)
    node.come_back()
    async with aclosing(node.subscribe_settlements(1)) as stream:
        assert (await anext(stream)).payment_hash == second


async def test_a_lost_answer_still_took_effect() -> None:
    node = FakeNode()
    node.lose_next_answer()
    with pytest.raises(NodeUnavailable):
        await node.add_invoice(PREIMAGE, Msat(5000), "memo", 60)
    assert await node.lookup_invoice(HASH) is not None
    node.lose_next_answer()
    with pytest.raises(NodeUnavailable):
        await node.cancel_invoice(HASH)
    assert await node.cancel_invoice(HASH) is CancelOutcome.CANCELED
    node.lose_next_answer()
    request = node.foreign_invoice(5000)
    assert isinstance(await send(node, request), Unknown)
    assert isinstance(await node.track_payment(node.sent[0].payment_hash, deadline_s=1), Settled)


@pytest.mark.parametrize(
    ("planned", "seen", "tracked"),
    [
        (InFlight(), InFlight, InFlight),
        (Unknown("?"), Unknown, InFlight),
        (NotFound(), Unknown, NotFound),
        (Failed(FailureReason.NO_ROUTE, 0), Failed, Failed),
    ],
)
async def test_planned_outcomes(planned: PaymentOutcome, seen: type, tracked: type) -> None:
    node = FakeNode()
    node.next_outcomes.append(planned)
    request = node.foreign_invoice(5000)
    payment_hash = (await node.decode(request)).payment_hash
    assert isinstance(await send(node, request), seen)
    assert isinstance(await node.track_payment(payment_hash, deadline_s=1), tracked)


async def test_a_payment_in_flight_ends_as_the_test_says() -> None:
    node = FakeNode()
    node.next_outcomes.append(InFlight())
    request = node.foreign_invoice(5000)
    await send(node, request)
    payment_hash = node.sent[0].payment_hash
    node.resolve(payment_hash)
    outcome = await node.track_payment(payment_hash, deadline_s=1)
    assert isinstance(outcome, Settled)
    assert hashlib.sha256(outcome.preimage).digest() == payment_hash
    assert outcome.amount_msat == 5000


async def test_a_forgotten_history_knows_no_payment() -> None:
    node = FakeNode()
    await send(node, node.foreign_invoice(5000))
    assert await node.highest_payment_index() == 1
    node.forget_payments()
    assert await node.highest_payment_index() == 0
    assert await node.track_payment(node.sent[0].payment_hash, deadline_s=1) == NotFound()
