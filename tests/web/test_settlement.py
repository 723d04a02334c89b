"""The webhook and the sweep with a node that says what a test wants."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from gateway.execution.queue import enqueue
from gateway.jobs.end_unpaid import Unpaid, unpaid_invoice
from gateway.jobs.settle import Settlement, settle
from gateway.settlement.event import settled_event
from gateway.settlement.sweep import Sweep
from lightning.types import Invoice, InvoiceState
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web

PATH = "/webhooks/lightning/invoice-settled"


async def deliver(web: Web, body: str, secret: str | None = None, at: datetime | None = None) -> int:
    at = at or datetime.now(UTC)
    headers = {
        "webhook-id": "m",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret or web.gateway.webhook_secret).sign("m", at, body),
    }
    async with web.http.post(f"{web.url}{PATH}", data=body, headers=headers) as response:
        return response.status


async def test_only_a_fresh_and_right_signature_is_heard(web: Web) -> None:
    body = json.dumps({})
    assert await deliver(web, body) == 422
    assert await deliver(web, body, secret="whsec_" + "B" * 43 + "=") == 401
    assert await deliver(web, body, at=datetime.now(UTC) - timedelta(minutes=6)) == 401


async def test_an_unpaid_invoice_is_not_settled_by_a_signed_lie(web: Web) -> None:
    job = await web.buy("echo", {})
    invoice = await web.node.lookup_invoice(bytes.fromhex(job["invoice"]["paymentHash"]))
    assert invoice is not None
    assert await deliver(web, settled_event(invoice).body) == 409
    assert (await web.job(job))["state"] == "awaiting_work_payment"


async def test_webhook_sweep_and_watcher_at_once_book_once(web: Web) -> None:
    """Twelve callers and the watcher race for one settlement; one starts the work."""
    job = await web.buy("echo", {"cost": 3})
    web.pay(job)
    invoice = await web.node.lookup_invoice(bytes.fromhex(job["invoice"]["paymentHash"]))
    assert invoice is not None
    await asyncio.gather(*(settle(web.gateway.pool, invoice, enqueue, web.gateway.rules) for _ in range(12)))
    await web.until(job, state="complete", userChargeSats=3)
    assert await settle(web.gateway.pool, invoice, enqueue, web.gateway.rules) is Settlement.REPEATED
    assert len(web.service.orders) == 1
    assert await web.gateway.pool.fetchval("select count(*) from transfers where cause_kind = 'settlement'") == 1


async def test_what_the_stream_said_is_remembered_until_it_is_booked(web: Web) -> None:
    """What is remembered for ever would grow for ever."""
    jobs = [await web.buy("echo", {}) for _ in range(3)]
    for job in jobs:
        web.pay(job)
    for job in jobs:
        await web.until(job, state="complete")
    async with asyncio.timeout(PATIENCE_S):
        while web.gateway.heard._invoices:
            await asyncio.sleep(0.01)
    assert not web.gateway.plain_invoices._known


async def test_an_open_invoice_past_its_expiry_stays_open_while_lnd_says_so(web: Web) -> None:
    job = await web.buy("echo", {})
    await web.gateway.pool.execute(
        "update invoices set planned_expires_at = now() - interval '1 hour', expires_at = now() - interval '1 hour'"
    )
    sweep = Sweep(web.gateway.pool, web.node, web.gateway.metrics, enqueue, 60, asyncio.Event(), web.gateway.rules)
    await sweep.once()
    assert (await web.job(job))["state"] == "awaiting_work_payment"
    web.pay(job)
    await web.until(job, state="complete")


@pytest.mark.parametrize("gone", ["expire", "forget"])
async def test_lnd_says_canceled_or_forgot_it_past_its_expiry(web: Web, gone: str) -> None:
    job = await web.buy("echo", {})
    payment_hash = bytes.fromhex(job["invoice"]["paymentHash"])
    if gone == "forget":
        await web.gateway.pool.execute("update invoices set planned_expires_at = now() - interval '1 hour'")
        web.node.forget_invoice(payment_hash)
    else:
        web.node.expire(payment_hash)
    expired = await web.until(job, state="expired")
    assert expired["invoice"]["state"] == "canceled"


async def test_a_planned_invoice_whose_answer_was_lost_is_found_and_honoured(web: Web) -> None:
    web.node.lose_next_answer()
    status, _ = await web.call("POST", "/api/jobs", {"work": "echo", "input": {"cost": 2}})
    assert status == 503
    row = await web.gateway.pool.fetchrow("select job_id, payment_hash, state from invoices")
    assert row["state"] == "planned"
    web.node.settle(bytes(row["payment_hash"]))
    async with asyncio.timeout(PATIENCE_S):
        while await web.gateway.pool.fetchval("select state from jobs") != "complete":
            await asyncio.sleep(0.05)


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "past_expiry", "meaning"),
    [
        (None, False, Unpaid.STILL_OPEN),
        (None, True, Unpaid.GONE),
        (InvoiceState.OPEN, False, Unpaid.STILL_OPEN),
        (InvoiceState.OPEN, True, Unpaid.STILL_OPEN),
        (InvoiceState.ACCEPTED, True, Unpaid.STILL_OPEN),
        (InvoiceState.CANCELED, False, Unpaid.GONE),
        (InvoiceState.SETTLED, True, Unpaid.SETTLED),
    ],
)
def test_what_a_look_up_means(state: InvoiceState | None, past_expiry: bool, meaning: Unpaid) -> None:
    found = state and Invoice(bytes(32), "ln", "", 1000, 0, state, NOW, NOW, 1, 0, None)  # type: ignore[arg-type]
    assert unpaid_invoice(found, past_expiry=past_expiry) is meaning


@pytest.mark.slow
async def test_an_event_that_keeps_failing_is_parked_and_holds_up_no_other(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node answers for all invoices but one; the others are told, that one is parked, and told in the end."""
    monkeypatch.setattr("gateway.settlement.deliver.BACKOFF_S", (0.01, 0.01))
    bad, good = await web.buy("echo", {}), await web.buy("echo", {})
    bad_hash = bytes.fromhex(bad["invoice"]["paymentHash"])
    lookup = web.node.lookup_invoice
    broken = True

    async def lookup_but_one(payment_hash: bytes) -> Invoice | None:
        if payment_hash == bad_hash and broken:
            raise ValueError("a fault of the test")
        return await lookup(payment_hash)

    monkeypatch.setattr(web.node, "lookup_invoice", lookup_but_one)
    monkeypatch.setattr("gateway.settlement.heard.Heard.of", lambda *_: None)  # so that LND is asked
    web.pay(bad)
    web.pay(good)
    await web.until(good, state="complete")
    async with asyncio.timeout(PATIENCE_S):
        while not await web.gateway.pool.fetchval("select count(*) from parked_events"):
            await asyncio.sleep(0.05)
    assert (await web.job(bad))["state"] == "awaiting_work_payment"
    broken = False
    await web.until(bad, state="complete")
    async with asyncio.timeout(PATIENCE_S):
        while await web.gateway.pool.fetchval("select count(*) from parked_events"):
            await asyncio.sleep(0.05)
