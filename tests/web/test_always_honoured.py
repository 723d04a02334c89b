"""A settled invoice is always honoured: the work runs, or a refund is owed. Whenever it settles, and however much."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Interface
from typing import Any

import pytest

from gateway.execution.queue import enqueue
from gateway.jobs.create import open_at_node, plan_invoice, store_invoices
from gateway.jobs.decisions import Purpose
from gateway.jobs.end_unpaid import record_gone
from gateway.jobs.settle import settle
from tests.web.conftest import Web


async def second_invoice(web: Web, job: dict[str, Any], amount_sats: int = 100) -> bytes:
    """Another invoice for the same order, open at the node; its payment hash."""
    planned = plan_invoice(amount_sats, "again", 600)
    async with web.gateway.pool.acquire() as conn, conn.transaction():
        await store_invoices(conn, [(str(job["id"]), IPv4Interface("127.0.0.1/32"), planned, Purpose.WORK)])
    await open_at_node(web.gateway.pool, web.node, planned)
    return planned.payment_hash


async def test_ten_percent_over_comes_back(web: Web) -> None:
    job = await web.buy("echo", {"cost": 30})
    web.pay(job, 110_000)
    done = await web.until(job, state="complete", refundState="pending", refundAmountSats=80)
    assert (done["userChargeSats"], done["invoice"]["amountPaidSats"]) == (30, 110)


async def test_ten_percent_over_and_the_work_fails(web: Web) -> None:
    job = await web.buy("echo", {"fail": True})
    web.pay(job, 110_000)
    await web.until(job, state="failed", refundState="pending", refundAmountSats=110)


async def test_cancelled_in_the_books_and_settled_at_the_node_at_once(web: Web) -> None:
    """At the moment of expiry: whichever is written first, the payment is worked for or owed back, once."""
    jobs = [await web.buy("echo", {"cost": 30}) for _ in range(8)]
    hashes = [bytes.fromhex(job["invoice"]["paymentHash"]) for job in jobs]
    web.node._up = False
    settled = [web.node.settle(payment_hash) for payment_hash in hashes]
    web.node._up = True
    pool = web.gateway.pool
    races = [record_gone(pool, payment_hash) for payment_hash in hashes]
    bookings = [settle(pool, invoice, enqueue, web.gateway.rules) for invoice in settled]
    await asyncio.gather(*(one for pair in zip(races, bookings, strict=True) for one in pair))
    for job in jobs:
        seen = await web.until(job, refundState="pending")
        owed = {"complete": 70, "expired": 100}[seen["state"]]
        assert seen["refundAmountSats"] == owed


@pytest.mark.parametrize("work_input", [{"cost": 30}, {"fail": True}])
async def test_paid_twice_for_one_order(web: Web, work_input: dict[str, Any]) -> None:
    """The second payment is owed back in full, beside what the first one left; the work runs once."""
    job = await web.buy("echo", {**work_input, "hold": True})
    again = await second_invoice(web, job)
    web.pay(job)
    await web.until(job, state="executing")
    web.node.settle(again)
    await web.until(job, state="executing", refundState="pending", refundAmountSats=100)
    web.service.release.set()
    owed = 200 if work_input.get("fail") else 170
    ended = await web.until(job, refundAmountSats=owed)
    assert ended["state"] == ("failed" if work_input.get("fail") else "complete")
    assert len(web.service.orders) == 1
    await web.refund(job, web.invoice(owed))
    await web.until(job, refundState="paid", refundAmountSats=owed)


async def test_two_invoices_of_one_order_settle_at_once(web: Web) -> None:
    job = await web.buy("echo", {"cost": 30})
    again = await second_invoice(web, job)
    web.node._up = False
    invoices = [web.node.settle(bytes.fromhex(job["invoice"]["paymentHash"])), web.node.settle(again)]
    web.node._up = True
    await asyncio.gather(*(settle(web.gateway.pool, invoice, enqueue, web.gateway.rules) for invoice in invoices * 4))
    await web.until(job, state="complete", refundState="pending", refundAmountSats=170)
    assert len(web.service.orders) == 1
