"""The LND client against real LND: restarts, frozen and broken nodes, credentials, and where BOLT11 is read by us."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest

from ledger.money import Msat
from lightning import bolt11, channel, lnd
from lightning.lnd import LndNode
from lightning.regtest.control import AsyncControl
from lightning.regtest.envfile import NodeAccess
from lightning.regtest.network import Network
from lightning.stubs import ln
from lightning.types import (
    CancelOutcome,
    InFlight,
    Invoice,
    InvoiceState,
    NodeRefused,
    NodeUnavailable,
    PaymentOutcome,
    Settled,
    Unknown,
)
from tests.waiting import PATIENCE_S

FIVE_SATS = Msat(5000)
RECOVERY_S = 60


def client(access: NodeAccess, *, unary_timeout_s: float = 10) -> LndNode:
    return LndNode(access.host, access.tls_cert, access.macaroon, unary_timeout_s=unary_timeout_s)


@pytest.fixture
async def node(regtest: Network) -> AsyncIterator[LndNode]:
    async with client(regtest.access.boltworks) as node:
        yield node


@pytest.fixture
async def other(regtest: Network) -> AsyncIterator[AsyncControl]:
    control = regtest.async_control("payer")
    yield control
    control.close()


@pytest.fixture
async def faults(regtest: Network) -> AsyncIterator[Network]:
    """The network, for tests that break the gateway's node; it is whole again afterwards."""
    yield regtest
    await asyncio.to_thread(make_whole, regtest)


def make_whole(network: Network) -> None:
    if network.is_alive("gateway"):
        network.resume("gateway")
    network.start("gateway")
    network.wait_ready("gateway")
    network.wait_channels()


async def new_invoice(node: LndNode) -> Invoice:
    return await node.add_invoice(os.urandom(32), FIVE_SATS, "client", 600)


async def settled_invoice(node: LndNode, other: AsyncControl) -> Invoice:
    invoice = await new_invoice(node)
    payment = await other.pay(invoice.payment_request)
    assert payment.succeeded, payment.failure
    settled = await node.lookup_invoice(invoice.payment_hash)
    assert settled is not None
    return settled


async def send(node: LndNode, payment_request: str, *, deadline_s: float = 20) -> PaymentOutcome:
    return await node.send_payment(
        payment_request,
        amount_msat=None,
        fee_limit_msat=Msat(0),
        cltv_limit=432,
        timeout_s=15,
        deadline_s=deadline_s,
    )


async def test_a_restart_in_mid_stream_loses_no_settlement(faults: Network, node: LndNode, other: AsyncControl) -> None:
    seen = await settled_invoice(node, other)
    waiting = await new_invoice(node)
    async with aclosing(node.subscribe_settlements(seen.settle_index)) as stream:
        reading = asyncio.ensure_future(anext(stream))
        live = await settled_invoice(node, other)
        assert await reading == live
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.to_thread(faults.kill, "gateway")
        with pytest.raises(NodeUnavailable):
            await asyncio.wait_for(reading, 5)
    await only_unavailable_until_back(faults, node, waiting.payment_hash)

    between = [await settled_invoice(node, other) for _ in range(2)]
    async with aclosing(node.subscribe_settlements(live.settle_index)) as stream:
        async with asyncio.timeout(PATIENCE_S):
            assert [await anext(stream) for _ in between] == between


async def test_the_settlement_stream_is_not_told_of_invoices_that_are_made(
    node: LndNode, other: AsyncControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    seen = await settled_invoice(node, other)
    stream_of = node._channel.stream

    async def heard(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        async for message in stream_of(*args, **kwargs):
            told.append(message.state)
            yield message

    monkeypatch.setattr(node._channel, "stream", heard)
    async with aclosing(node.subscribe_settlements(seen.settle_index)) as stream:
        reading = asyncio.ensure_future(anext(stream))
        for _ in range(5):
            await new_invoice(node)
        live = await settled_invoice(node, other)
        assert await reading == live
    assert told == [ln.Invoice.SETTLED]


async def only_unavailable_until_back(network: Network, node: LndNode, known_hash: bytes) -> None:
    """While LND is down and starting, each call answers NodeUnavailable in time, and nothing else."""
    for call in calls(node, known_hash):
        with pytest.raises(NodeUnavailable):
            await asyncio.wait_for(call, 15)
    network.start("gateway")
    asking = [asyncio.create_task(ask_until_answered(node, known_hash)) for _ in range(8)]
    await asyncio.to_thread(network.wait_ready, "gateway")
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*asking)
    await asyncio.to_thread(network.wait_channels)


def calls(node: LndNode, known_hash: bytes) -> list[asyncio.Future[object]]:
    return [
        asyncio.ensure_future(node.get_info()),
        asyncio.ensure_future(node.lookup_invoice(known_hash)),
        asyncio.ensure_future(new_invoice(node)),
        asyncio.ensure_future(node.cancel_invoice(known_hash)),
        asyncio.ensure_future(node.highest_payment_index()),
        asyncio.ensure_future(node.channel_balance()),
        asyncio.ensure_future(anext(node.list_invoices())),
        asyncio.ensure_future(anext(node.subscribe_settlements(1))),
    ]


async def ask_until_answered(node: LndNode, known_hash: bytes) -> None:
    while True:
        try:
            found = await node.lookup_invoice(known_hash)
            assert found is not None
            assert found.state is InvoiceState.OPEN
            decoded = await node.decode(found.payment_request)
            assert decoded.payment_hash == known_hash
            await new_invoice(node)
        except NodeUnavailable:
            await asyncio.sleep(0.02)
        else:
            return


async def test_a_frozen_node_is_noticed_by_call_and_by_stream(faults: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "KEEPALIVE_TIMEOUT_S", 2)
    async with client(faults.access.boltworks, unary_timeout_s=2) as node:
        reading = asyncio.ensure_future(anext(node.subscribe_settlements(0)))
        invoice = await new_invoice(node)
        await asyncio.to_thread(faults.pause, "gateway")
        with pytest.raises(NodeUnavailable):  # by the call's own time or by the channel's ping, whichever is first
            await asyncio.wait_for(node.lookup_invoice(invoice.payment_hash), 20)
        assert isinstance(await node.track_payment(os.urandom(32), deadline_s=1), Unknown)
        with pytest.raises(NodeUnavailable):
            await asyncio.wait_for(reading, channel.KEEPALIVE_S + 2 + 5)
        await asyncio.to_thread(faults.resume, "gateway")
        async with asyncio.timeout(RECOVERY_S):
            await ask_until_answered(node, invoice.payment_hash)


async def test_a_send_whose_node_dies_is_unknown_and_then_found_settled(
    faults: Network, node: LndNode, other: AsyncControl
) -> None:
    request, preimage = await other.hold_invoice(5)
    payment_hash = hashlib.sha256(preimage).digest()
    sending = asyncio.create_task(send(node, request))
    await other.wait_accepted(payment_hash)
    await asyncio.to_thread(faults.kill, "gateway")
    assert isinstance(await asyncio.wait_for(sending, 15), Unknown)
    assert isinstance(await node.track_payment(payment_hash, deadline_s=5), Unknown)
    await asyncio.to_thread(make_whole, faults)
    async with asyncio.timeout(RECOVERY_S):
        while await node.track_payment(payment_hash, deadline_s=1) != InFlight():
            pass
    await other.settle(preimage)
    outcome = await node.track_payment(payment_hash, deadline_s=30)
    assert isinstance(outcome, Settled)
    assert outcome.preimage == preimage


async def test_leaving_the_send_does_not_stop_the_payment(node: LndNode, other: AsyncControl) -> None:
    request, preimage = await other.hold_invoice(5)
    payment_hash = hashlib.sha256(preimage).digest()
    sending = asyncio.create_task(send(node, request))
    await other.wait_accepted(payment_hash)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await other.settle(preimage)
    assert isinstance(await node.track_payment(payment_hash, deadline_s=20), Settled)


async def test_a_payment_that_ends_while_it_is_tracked_is_told_at_once(node: LndNode, other: AsyncControl) -> None:
    request, preimage = await other.hold_invoice(5)
    payment_hash = hashlib.sha256(preimage).digest()
    assert await send(node, request, deadline_s=3) == InFlight()
    await other.wait_accepted(payment_hash)
    tracking = asyncio.create_task(node.track_payment(payment_hash, deadline_s=20))
    await other.settle(preimage)
    assert isinstance(await asyncio.wait_for(tracking, 15), Settled)


async def test_another_certificate_is_refused_until_the_file_is_right(regtest: Network, tmp_path: Path) -> None:
    right, wrong = regtest.access.boltworks, regtest.access.payer
    cert = tmp_path / "tls.cert"
    shutil.copy(wrong.tls_cert, cert)
    async with LndNode(right.host, cert, right.macaroon, unary_timeout_s=3) as node:
        for _ in range(2):
            with pytest.raises(NodeUnavailable):
                await node.get_info()
        shutil.copy(right.tls_cert, cert)
        with pytest.raises(NodeUnavailable):
            await node.get_info()
        assert (await node.get_info()).synced_to_chain


async def test_a_replaced_macaroon_is_taken_up(regtest: Network, tmp_path: Path) -> None:
    right, wrong = regtest.access.boltworks, regtest.access.payer
    macaroon = tmp_path / "gateway.macaroon"
    shutil.copy(wrong.macaroon, macaroon)
    async with LndNode(right.host, right.tls_cert, macaroon) as node:
        with pytest.raises(NodeUnavailable):
            await node.get_info()
        shutil.copy(right.macaroon, macaroon)
        with pytest.raises(NodeUnavailable):
            await node.get_info()
        assert (await node.get_info()).synced_to_chain


async def test_missing_credentials_are_an_error_at_the_start(regtest: Network, tmp_path: Path) -> None:
    right = regtest.access.boltworks
    with pytest.raises(FileNotFoundError):
        async with LndNode(right.host, right.tls_cert, tmp_path / "none"):
            pass


async def test_the_watchers_macaroon_reads_invoices_and_nothing_else(
    regtest: Network, node: LndNode, other: AsyncControl
) -> None:
    right = regtest.access.boltworks
    settled = await settled_invoice(node, other)
    async with LndNode(right.host, right.tls_cert, regtest.watcher_macaroon) as reader:
        assert await reader.lookup_invoice(settled.payment_hash) == settled
        async with aclosing(reader.subscribe_settlements(settled.settle_index - 1)) as stream:
            assert await asyncio.wait_for(anext(stream), 10) == settled
        with pytest.raises(NodeRefused, match="permission denied"):
            await new_invoice(reader)
        with pytest.raises(NodeUnavailable, match="permission denied"):
            await reader.highest_payment_index()
        waiting = await new_invoice(node)
        assert await reader.cancel_invoice(waiting.payment_hash) is CancelOutcome.STILL_OPEN


async def test_calls_at_the_moment_of_closing_end_as_unavailable(regtest: Network) -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(client(regtest.access.boltworks))
        reading = asyncio.ensure_future(anext(node.subscribe_settlements(0)))
        assert (await node.get_info()).synced_to_chain
        await stack.aclose()
        with pytest.raises(NodeUnavailable):
            await asyncio.wait_for(reading, 5)


async def test_every_page_of_invoices_is_read(node: LndNode, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [await new_invoice(node) for _ in range(5)]
    monkeypatch.setattr(lnd, "PAGE_SIZE", 2)
    listed = [i async for i in node.list_invoices(after_add_index=made[0].add_index - 1)]
    assert listed == made


async def test_every_page_of_payments_is_read(
    node: LndNode, payer: AsyncControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = [await payer.invoice(3) for _ in range(5)]
    for request in sent:
        await node.send_payment(
            request, amount_msat=None, fee_limit_msat=Msat(1000), cltv_limit=432, timeout_s=20, deadline_s=20
        )
    monkeypatch.setattr(lnd, "PAGE_SIZE", 2)
    listed = [payment.payment_hash async for payment in node.list_payments()]
    assert listed[-5:] == [bolt11.read(request).payment_hash for request in sent]
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("expiry_s", [1, 31, 32, 600, 3600, 86_400, 31_536_000])
@pytest.mark.parametrize("amount_msat", [1, 1001, 21_000, 100_000_000, 1_234_567_891])
async def test_what_we_read_in_an_invoice_is_what_lnd_decodes(node: LndNode, expiry_s: int, amount_msat: int) -> None:
    invoice = await node.add_invoice(os.urandom(32), Msat(amount_msat), "grüße ₿", expiry_s)
    ours, theirs = bolt11.read(invoice.payment_request), await node.decode(invoice.payment_request)
    assert ours == bolt11.Bolt11(
        network=theirs.network,
        amount_msat=theirs.amount_msat,
        created_at=theirs.created_at,
        payment_hash=theirs.payment_hash,
        description=theirs.description,
        min_final_cltv=theirs.min_final_cltv,
        expires_at=theirs.expires_at,
    )
    assert (invoice.amount_msat, invoice.expires_at) == (amount_msat, theirs.expires_at)


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="counts connections as Linux lists them")
async def test_many_calls_share_the_one_connection(regtest: Network) -> None:
    access = regtest.access.boltworks
    before = connections_to(access.host)
    async with client(access) as node:
        made = await asyncio.gather(*(new_invoice(node) for _ in range(100)))
        assert len({invoice.add_index for invoice in made}) == 100
        assert connections_to(access.host) == before + 1


def connections_to(host: str) -> int:
    """Established TCP connections of this process to the port."""
    port = f"{int(host.rpartition(':')[2]):04X}"
    ours = {str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()}
    tables = [Path(f"/proc/self/net/{name}") for name in ("tcp", "tcp6")]
    lines = [line for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    rows = [line.split() for line in lines]
    return sum(row[2].endswith(port) and row[3] == "01" and f"socket:[{row[9]}]" in ours for row in rows)
