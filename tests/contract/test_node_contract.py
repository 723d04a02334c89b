"""What every `Node` promises, asked of the fake and of real LND alike."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from node_worlds import FakeWorld, LndWorld, World

from ledger.money import Msat
from lightning.bolt11 import read
from lightning.fake import FakeNode
from lightning.lnd import LndNode
from lightning.regtest.network import Network
from lightning.types import (
    BadPaymentRequest,
    CancelOutcome,
    Failed,
    FailureReason,
    InFlight,
    Invoice,
    InvoiceConflict,
    InvoiceState,
    NodeRefused,
    NotFound,
    PaymentOutcome,
    Settled,
    Unknown,
)

FIVE_SATS = Msat(5000)
SETTLED_WITHIN_S = 20


@pytest.fixture(params=["fake", "lnd"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "fake":
        yield FakeWorld(FakeNode())
        return
    network: Network = request.getfixturevalue("regtest")
    access, other = network.access.boltworks, network.async_control("payer")
    async with LndNode(access.host, access.tls_cert, access.macaroon) as node:
        yield LndWorld(node, other)
    other.close()


async def new_invoice(world: World, amount_msat: Msat = FIVE_SATS, expiry_s: int = 600) -> Invoice:
    return await world.node.add_invoice(os.urandom(32), amount_msat, "contract", expiry_s)


async def settled_invoice(world: World) -> Invoice:
    invoice = await new_invoice(world)
    await world.pay(invoice.payment_request)
    settled = await world.node.lookup_invoice(invoice.payment_hash)
    assert settled is not None
    assert settled.state is InvoiceState.SETTLED
    return settled


async def send(
    world: World, payment_request: str, *, amount_msat: Msat | None = None, deadline_s: float = 20
) -> PaymentOutcome:
    return await world.node.send_payment(
        payment_request,
        amount_msat=amount_msat,
        fee_limit_msat=Msat(10_000),
        cltv_limit=432,
        timeout_s=15,
        deadline_s=deadline_s,
    )


async def until(check: Callable[[], Awaitable[bool]], timeout_s: float = SETTLED_WITHIN_S) -> None:
    """For what a node tells only when asked."""
    async with asyncio.timeout(timeout_s):
        while not await check():
            await asyncio.sleep(0.05)


class TestInvoices:
    async def test_what_add_answers_is_what_a_lookup_says(self, world: World) -> None:
        preimage = os.urandom(32)
        before = datetime.now(UTC).replace(microsecond=0)
        invoice = await world.node.add_invoice(preimage, FIVE_SATS, "a memo", 77)
        assert invoice.payment_hash == hashlib.sha256(preimage).digest()
        assert (invoice.amount_msat, invoice.amount_paid_msat, invoice.memo) == (5000, 0, "a memo")
        assert (invoice.state, invoice.settle_index, invoice.settled_at) == (InvoiceState.OPEN, 0, None)
        assert before <= invoice.created_at <= datetime.now(UTC)
        assert invoice.expires_at == invoice.created_at + timedelta(seconds=77)
        assert await world.node.lookup_invoice(invoice.payment_hash) == invoice

    async def test_adding_it_again_finds_the_same_one(self, world: World) -> None:
        preimage = os.urandom(32)
        first = await world.node.add_invoice(preimage, FIVE_SATS, "memo", 600)
        assert await world.node.add_invoice(preimage, FIVE_SATS, "memo", 600) == first

    async def test_another_amount_for_a_known_hash_is_a_conflict(self, world: World) -> None:
        preimage = os.urandom(32)
        await world.node.add_invoice(preimage, FIVE_SATS, "memo", 600)
        with pytest.raises(InvoiceConflict):
            await world.node.add_invoice(preimage, Msat(6000), "memo", 600)

    @pytest.mark.parametrize(
        ("preimage", "amount_msat", "expiry_s"),
        [(b"\x01" * 32, 0, 600), (b"\x01" * 32, -1, 600), (b"\x01" * 32, 1000, 0), (b"\x01" * 31, 1000, 600)],
    )
    async def test_what_lnd_would_read_as_a_default_never_leaves(
        self, world: World, preimage: bytes, amount_msat: int, expiry_s: int
    ) -> None:
        with pytest.raises(ValueError, match="invoice needs"):
            await world.node.add_invoice(preimage, Msat(amount_msat), "memo", expiry_s)

    async def test_a_refusal_is_said_and_leaves_no_invoice(self, world: World) -> None:
        preimage = os.urandom(32)
        with pytest.raises(NodeRefused) as refused:
            await world.node.add_invoice(preimage, FIVE_SATS, "m" * 700, 600)
        assert refused.value.code == "UNKNOWN"
        assert await world.node.lookup_invoice(hashlib.sha256(preimage).digest()) is None

    async def test_an_unknown_hash_is_none(self, world: World) -> None:
        assert await world.node.lookup_invoice(os.urandom(32)) is None

    async def test_cancel_answers_what_the_invoice_is_now(self, world: World) -> None:
        invoice = await new_invoice(world)
        assert await world.node.cancel_invoice(invoice.payment_hash) is CancelOutcome.CANCELED
        assert await world.node.cancel_invoice(invoice.payment_hash) is CancelOutcome.CANCELED
        found = await world.node.lookup_invoice(invoice.payment_hash)
        assert found is not None
        assert found.state is InvoiceState.CANCELED

    async def test_cancel_of_a_settled_or_unknown_invoice_changes_nothing(self, world: World) -> None:
        settled = await settled_invoice(world)
        assert await world.node.cancel_invoice(settled.payment_hash) is CancelOutcome.SETTLED
        assert await world.node.lookup_invoice(settled.payment_hash) == settled
        assert await world.node.cancel_invoice(os.urandom(32)) is CancelOutcome.NOT_FOUND

    async def test_an_unpaid_invoice_ends_canceled(self, world: World) -> None:
        invoice = await new_invoice(world, expiry_s=1)

        async def canceled() -> bool:
            found = await world.node.lookup_invoice(invoice.payment_hash)
            return found is not None and found.state is InvoiceState.CANCELED

        await until(canceled)

    async def test_a_paid_invoice_says_what_was_paid(self, world: World) -> None:
        settled = await settled_invoice(world)
        assert settled.amount_paid_msat == 5000
        assert settled.settle_index > 0
        assert settled.settled_at is not None
        assert abs(datetime.now(UTC) - settled.settled_at) < timedelta(minutes=1)

    async def test_all_invoices_are_listed_in_order(self, world: World) -> None:
        made = [await new_invoice(world) for _ in range(3)]
        listed = [i async for i in world.node.list_invoices(after_add_index=made[0].add_index)]
        assert listed == made[1:]
        everything = [i.add_index async for i in world.node.list_invoices()]
        assert everything == sorted(everything)
        assert {i.add_index for i in made} <= set(everything)


class TestSettlements:
    async def test_the_backlog_comes_first_then_live_ones(self, world: World) -> None:
        start = await settled_invoice(world)
        missed = await settled_invoice(world)
        async with aclosing(world.node.subscribe_settlements(start.settle_index)) as stream:
            async with asyncio.timeout(SETTLED_WITHIN_S):
                assert await anext(stream) == missed
                live = await settled_invoice(world)
                assert await anext(stream) == live

    async def test_a_new_stream_from_the_same_index_says_it_again(self, world: World) -> None:
        start = await settled_invoice(world)
        for _ in range(2):
            later = await settled_invoice(world)
            async with aclosing(world.node.subscribe_settlements(later.settle_index - 1)) as stream:
                async with asyncio.timeout(SETTLED_WITHIN_S):
                    assert await anext(stream) == later
        assert later.settle_index == start.settle_index + 2

    async def test_index_zero_replays_nothing(self, world: World) -> None:
        old = await settled_invoice(world)
        async with aclosing(world.node.subscribe_settlements(0)) as stream:
            reading = asyncio.ensure_future(anext(stream))
            async with asyncio.timeout(SETTLED_WITHIN_S):
                while not reading.done():
                    await settled_invoice(world)
                    await asyncio.wait({reading}, timeout=0.2)
            assert reading.result().settle_index > old.settle_index

    async def test_an_index_above_the_nodes_own_hides_live_settlements(self, world: World) -> None:
        start = await settled_invoice(world)
        async with (
            aclosing(world.node.subscribe_settlements(start.settle_index + 1000)) as deaf,
            aclosing(world.node.subscribe_settlements(start.settle_index)) as stream,
        ):
            silence = asyncio.ensure_future(anext(deaf))
            async with asyncio.timeout(SETTLED_WITHIN_S):
                for _ in range(3):
                    live = await settled_invoice(world)
                    assert await anext(stream) == live
            assert not silence.done()
            silence.cancel()
            await asyncio.wait({silence})

    async def test_whoever_stops_reading_leaves_the_node_usable(self, world: World) -> None:
        reading = asyncio.ensure_future(anext(world.node.subscribe_settlements(0)))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert (await world.node.get_info()).synced_to_chain


class TestDecode:
    async def test_every_field_agrees_with_the_string(self, world: World) -> None:
        request = await world.foreign_invoice(21, expiry_s=1234)
        decoded, local = await world.node.decode(request), read(request)
        assert decoded.payment_request == request
        assert decoded.network == local.network == "regtest"
        assert decoded.payment_hash == local.payment_hash
        assert decoded.amount_msat == local.amount_msat == 21_000
        assert decoded.created_at == local.created_at
        assert decoded.expires_at == local.expires_at == local.created_at + timedelta(seconds=1234)
        assert decoded.min_final_cltv == local.min_final_cltv
        assert decoded.destination != (await world.node.get_info()).pubkey
        assert len(bytes.fromhex(decoded.destination)) == 33

    async def test_an_amountless_invoice_asks_for_zero(self, world: World) -> None:
        assert (await world.node.decode(await world.foreign_invoice(0))).amount_msat == 0

    async def test_ones_own_invoice_names_oneself(self, world: World) -> None:
        invoice = await new_invoice(world)
        decoded = await world.node.decode(invoice.payment_request)
        assert decoded.destination == (await world.node.get_info()).pubkey

    @pytest.mark.parametrize("text", ["", "nonsense", "lnbcrt1qqqqqq"])
    async def test_what_is_no_invoice_is_bad(self, world: World, text: str) -> None:
        with pytest.raises(BadPaymentRequest):
            await world.node.decode(text)

    async def test_a_broken_or_foreign_networks_invoice_is_bad(self, world: World) -> None:
        request = await world.foreign_invoice(5)
        elsewhere = FakeNode(network="mainnet").foreign_invoice(5000)
        for bad in (request[:-1] + ("q" if request[-1] != "q" else "p"), elsewhere):
            with pytest.raises(BadPaymentRequest):
                await world.node.decode(bad)


class TestPayments:
    async def test_a_payment_settles_with_the_preimage_and_is_found_again(self, world: World) -> None:
        request = await world.foreign_invoice(5)
        before = await world.node.highest_payment_index()
        outcome = await send(world, request)
        assert isinstance(outcome, Settled)
        assert hashlib.sha256(outcome.preimage).digest() == read(request).payment_hash
        assert (outcome.amount_msat, outcome.fee_msat) == (5000, 0)
        assert before < outcome.payment_index == await world.node.highest_payment_index()
        assert await world.node.track_payment(read(request).payment_hash, deadline_s=10) == outcome

    async def test_paying_twice_says_unknown_and_pays_once(self, world: World) -> None:
        request = await world.foreign_invoice(5)
        outcome = await send(world, request)
        assert isinstance(await send(world, request), Unknown)
        assert await world.node.track_payment(read(request).payment_hash, deadline_s=10) == outcome

    async def test_an_amountless_invoice_takes_the_amount_given(self, world: World) -> None:
        outcome = await send(world, await world.foreign_invoice(0), amount_msat=Msat(7000))
        assert isinstance(outcome, Settled)
        assert outcome.amount_msat == 7000

    async def test_an_amount_missing_or_given_twice_is_not_sent(self, world: World) -> None:
        amountless, exact = await world.foreign_invoice(0), await world.foreign_invoice(5)
        assert isinstance(await send(world, amountless), Unknown)
        assert isinstance(await send(world, exact, amount_msat=FIVE_SATS), Unknown)
        for request in (amountless, exact):
            assert await world.node.track_payment(read(request).payment_hash, deadline_s=10) == NotFound()

    async def test_what_was_never_sent_is_not_found(self, world: World) -> None:
        assert await world.node.track_payment(os.urandom(32), deadline_s=10) == NotFound()

    async def test_a_held_payment_is_in_flight_by_the_deadline_and_settles_later(self, world: World) -> None:
        held = await world.held_invoice(5)
        payment_hash = read(held.payment_request).payment_hash
        assert await send(world, held.payment_request, deadline_s=3) == InFlight()
        assert await world.node.track_payment(payment_hash, deadline_s=2) == InFlight()
        assert isinstance(await send(world, held.payment_request), Unknown)
        await held.take()
        assert isinstance(await world.node.track_payment(payment_hash, deadline_s=20), Settled)

    async def test_a_refused_payment_fails_with_its_reason_and_may_be_tried_again(self, world: World) -> None:
        request = await world.unpayable_invoice(5)
        failed = await send(world, request)
        assert isinstance(failed, Failed)
        assert failed.reason is FailureReason.INCORRECT_PAYMENT_DETAILS
        assert await world.node.track_payment(read(request).payment_hash, deadline_s=10) == failed
        again = await send(world, request)
        assert isinstance(again, Failed)
        assert again.payment_index > failed.payment_index

    async def test_no_payment_to_oneself(self, world: World) -> None:
        invoice = await new_invoice(world)
        assert isinstance(await send(world, invoice.payment_request), Unknown)
        assert await world.node.lookup_invoice(invoice.payment_hash) == invoice

    async def test_an_expired_invoice_is_not_sent(self, world: World) -> None:
        request = await world.foreign_invoice(5, expiry_s=1)
        expires_at = read(request).expires_at
        await asyncio.sleep((expires_at - datetime.now(UTC)).total_seconds() + 0.1)
        assert isinstance(await send(world, request), Unknown)
        assert await world.node.track_payment(read(request).payment_hash, deadline_s=10) == NotFound()

    async def test_every_payment_is_listed_as_it_ended(self, world: World) -> None:
        async def listed() -> dict[bytes, PaymentOutcome]:
            return {payment.payment_hash: payment.outcome async for payment in world.node.list_payments()}

        held = await world.held_invoice(5)
        held_hash = read(held.payment_request).payment_hash
        assert held_hash not in await listed()
        await send(world, held.payment_request, deadline_s=3)
        assert (await listed())[held_hash] == InFlight()
        await held.take()
        settled = await world.node.track_payment(held_hash, deadline_s=20)
        refused = await world.unpayable_invoice(5)
        failed = await send(world, refused)
        assert (await listed()).items() >= {held_hash: settled, read(refused).payment_hash: failed}.items()

    async def test_nonsense_is_not_sent(self, world: World) -> None:
        before = await world.node.highest_payment_index()
        assert isinstance(await send(world, "nonsense"), Unknown)
        assert await world.node.highest_payment_index() == before


async def test_the_node_says_who_it_is(world: World) -> None:
    info = await world.node.get_info()
    own = await world.node.identity()
    assert (own.pubkey, own.network) == (info.pubkey, info.network)
    assert info.network == "regtest"
    assert len(bytes.fromhex(info.pubkey)) == 33
    assert info.synced_to_chain
    assert info.block_height > 0


async def test_the_channels_can_send_and_receive(world: World) -> None:
    balance = await world.node.channel_balance()
    assert balance.local_msat > 0
    assert balance.remote_msat > 0
    liquidity = await world.node.liquidity()
    assert liquidity.channels >= liquidity.active >= 1
    assert 0 < liquidity.outbound_msat < balance.local_msat, "reserves are left out"
    assert 0 < liquidity.inbound_msat < balance.remote_msat
