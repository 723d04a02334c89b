"""Rules of a refund that other files leave open: what stands in the database when a send leaves, and who is refused."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from gateway.refunds.decisions import EXPIRED_UNSENT
from lightning import bolt11
from lightning.fake import FakeNode
from lightning.types import InFlight, NotFound, PaymentOutcome
from tests.lnurl_wallet import serving_wallet
from tests.waiting import PATIENCE_S
from tests.web.at_the_send import at_the_send
from tests.web.conftest import Web


async def until_attempt(web: Web, condition: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await web.gateway.pool.fetchval(f"select true from refund_attempts where {condition}"):  # noqa: S608
            await asyncio.sleep(0.05)


async def test_the_invoice_is_pinned_and_the_send_counted_and_leased_before_it_leaves(
    web: Web, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen by a connection of its own at the moment of the send: only what is committed."""
    seen: list[tuple[Any, ...]] = []
    send = web.node.send_payment

    async def look_then_send(payment_request: str, **limits: Any) -> PaymentOutcome:
        began = datetime.now(UTC)
        conn = await asyncpg.connect(dsn)
        row = await conn.fetchrow(
            "select attempt.payment_request, attempt.payment_hash, attempt.sends, attempt.state, refund.state as debt,"
            " attempt.lease_until"
            " from refund_attempts attempt join refunds refund on refund.attempt_id = attempt.id"
        )
        await conn.close()
        assert row is not None
        *stored, lease_until = row
        seen.append((*stored, (lease_until - began).total_seconds(), limits))
        return await send(payment_request, **limits)

    monkeypatch.setattr(web.node, "send_payment", look_then_send)
    job, invoice = await web.owing(), web.invoice(70)
    await web.refund(job, invoice)
    await web.until(job, refundState="paid")
    assert len(seen) == 1
    *stored, lease_left_s, limits = seen[0]
    assert stored == [invoice, bolt11.read(invoice).payment_hash, 1, "unfinished", "paying"]
    assert 0 < limits["deadline_s"] < lease_left_s, "the call is over before the lease"
    assert (limits["cltv_limit"], limits["fee_limit_msat"]) == (432, 10_000)


async def test_a_send_is_not_repeated_when_the_nodes_history_is_shorter_than_it_was(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was ever seen of the send, and the node, restored from a backup, has not reached where it was."""
    at_the_send(web, monkeypatch, "update refund_attempts set highest_payment_index = 1000")
    job = await web.owing()
    web.node.next_outcomes.append(NotFound())
    invoice = web.invoice(70)
    await web.refund(job, invoice)
    await until_attempt(web, "state = 'frozen'")
    assert web.sends(invoice) == 1
    assert (await web.job(job))["refundState"] == "paying"


async def test_another_networks_invoice_is_refused_for_a_refund(web: Web) -> None:
    job = await web.owing()
    status, problem = await web.refund(job, FakeNode(network="mainnet").foreign_invoice(70_000))
    assert (status, problem["code"]) == (422, "destination_wrong_network")
    assert "mainnet" in problem["detail"]
    assert (await web.job(job))["refundState"] == "pending"


@pytest.mark.parametrize("outcome", ["settled", "in flight"])
async def test_a_hash_that_the_node_knows_already_is_refused(web: Web, outcome: str) -> None:
    """Paid by the operator's own hand, say."""
    job, invoice = await web.owing(), web.invoice(70)
    web.node.resolve(bolt11.read(invoice).payment_hash, InFlight() if outcome == "in flight" else None)
    status, problem = await web.refund(job, invoice)
    assert (status, problem["code"]) == (409, "destination_used")
    assert web.node.sent == []


async def test_the_invoice_of_an_address_is_checked_like_any_other(web: Web) -> None:
    """A Lightning Address that gives our own node's invoice, or one that has nearly expired."""
    own = await web.buy("echo", {})
    given = {"own": own["invoice"]["paymentRequest"], "late": web.invoice(70, expiry_s=5)}
    codes = {}
    for name, invoice in given.items():

        async def make_invoice(amount_msat: int, description_hash: bytes, invoice: str = invoice) -> str:
            return invoice

        job = await web.owing()
        async with serving_wallet(make_invoice) as wallet:
            status, problem = await web.refund(job, wallet.address)
        codes[name] = (status, problem["code"])
    assert codes == {"own": (422, "destination_own_node"), "late": (422, "destination_expired")}
    assert web.node.sent == []


async def test_an_expired_invoice_that_nobody_took_up_is_given_up_only_a_minute_after(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A send that never reached the node may still be on its way until LND would refuse it."""
    at_the_send(web, monkeypatch, "update refund_attempts set expires_at = now() + interval '5 seconds'")
    looks: list[bytes] = []
    track = web.node.track_payment

    async def counted(payment_hash: bytes, *, deadline_s: float) -> PaymentOutcome:
        looks.append(payment_hash)
        return await track(payment_hash, deadline_s=deadline_s)

    monkeypatch.setattr(web.node, "track_payment", counted)
    job, invoice = await web.owing(), web.invoice(70)
    web.node.next_outcomes.append(NotFound())
    await web.refund(job, invoice)
    async with asyncio.timeout(60):
        while len(looks) < 5:
            await asyncio.sleep(0.05)
    assert await web.gateway.pool.fetchval("select state from refund_attempts") == "unfinished"
    assert web.sends(invoice) == 1
    await web.gateway.pool.execute("update refund_attempts set expires_at = now() - interval '61 seconds'")
    await until_attempt(web, "state = 'failed'")
    assert (await web.job(job))["refundProblem"] == EXPIRED_UNSENT
