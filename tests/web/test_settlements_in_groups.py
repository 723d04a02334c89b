"""Settlements in groups: each is booked once, whatever stands beside it in the group."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.execution.queue import enqueue_all
from gateway.jobs.settle import Settlement
from gateway.jobs.settle_group import settle_group
from ledger.database import Connection
from ledger.groups import Groups
from lightning.types import Invoice
from tests.waiting import until_somebody_waits
from tests.web.conftest import Web
from tests.web.test_always_honoured import second_invoice


@pytest.fixture
def more_settings() -> dict[str, Any]:
    """No sweep: what a test settles unheard is its own to book."""
    return {"sweep_interval_s": 3600}


def settled_unheard(web: Web, *payment_hashes: bytes) -> list[Invoice]:
    """Settled at the node, and its stream says nothing of it."""
    web.node._up = False
    invoices = [web.node.settle(payment_hash) for payment_hash in payment_hashes]
    web.node._up = True
    return invoices


async def booked(web: Web, invoices: Sequence[Invoice]) -> list[Settlement]:
    """All in one transaction."""
    async with web.gateway.pool.acquire() as conn, conn.transaction():
        return await settle_group(conn, invoices, enqueue_all)


async def test_a_group_books_each_once_and_starts_each_work_once(web: Web) -> None:
    jobs = [await web.buy("echo", {"cost": 30}) for _ in range(5)]
    invoices = settled_unheard(web, *(bytes.fromhex(job["invoice"]["paymentHash"]) for job in jobs))
    assert await booked(web, [*invoices, *invoices[:2]]) == [Settlement.STARTED] * 5 + [Settlement.REPEATED] * 2
    assert await booked(web, invoices) == [Settlement.REPEATED] * 5
    for job in jobs:
        await web.until(job, state="complete", refundState="pending", refundAmountSats=70)
    assert len(web.service.orders) == 5


async def test_two_invoices_of_one_job_in_one_group(web: Web) -> None:
    """One begins the work, the other is owed back in full."""
    job = await web.buy("echo", {"cost": 30})
    again = await second_invoice(web, job)
    invoices = settled_unheard(web, bytes.fromhex(job["invoice"]["paymentHash"]), again)
    assert await booked(web, invoices) == [Settlement.STARTED, Settlement.OWED_BACK]
    await web.until(job, state="complete", refundState="pending", refundAmountSats=170)
    assert len(web.service.orders) == 1


async def test_a_group_waits_for_a_job_that_another_settles(web: Web) -> None:
    """What it finds then is what was committed meanwhile: the work has begun, and one settlement stands already."""
    job = await web.buy("echo", {"cost": 30})
    again = await second_invoice(web, job)
    first, second = settled_unheard(web, bytes.fromhex(job["invoice"]["paymentHash"]), again)
    async with web.gateway.pool.acquire() as conn, conn.transaction():
        assert await settle_group(conn, [first], enqueue_all) == [Settlement.STARTED]
        waiting = asyncio.create_task(booked(web, [second, first]))
        await until_somebody_waits(web.gateway.pool)
        free = (
            "select count(*) from (select from invoices where payment_hash = $1 for no key update skip locked) as free"
        )
        assert await web.gateway.pool.fetchval(free, again) == 1, "jobs are locked before invoices are written"
    assert await waiting == [Settlement.OWED_BACK, Settlement.REPEATED]
    await web.until(job, state="complete", refundState="pending", refundAmountSats=170)
    assert len(web.service.orders) == 1


async def test_what_no_job_of_ours_knows_is_left_out(web: Web) -> None:
    job = await web.buy("echo", {"cost": 30})
    (settled,) = settled_unheard(web, bytes.fromhex(job["invoice"]["paymentHash"]))
    stranger = replace(settled, payment_hash=bytes(32))
    assert await booked(web, [stranger, settled]) == [Settlement.UNKNOWN_INVOICE, Settlement.STARTED]


async def test_a_commit_of_unknown_outcome_is_not_booked_twice(web: Web) -> None:
    jobs = [await web.buy("echo", {"cost": 30}) for _ in range(3)]
    invoices = settled_unheard(web, *(bytes.fromhex(job["invoice"]["paymentHash"]) for job in jobs))
    lost = 0

    class Breaking(Groups[Invoice, Settlement]):
        async def _once(self, asks: Sequence[Invoice]) -> list[Settlement]:
            nonlocal lost
            answers = await super()._once(asks)
            if not lost:
                lost += 1
                raise ConnectionError("the answer to COMMIT was lost")
            return answers

    async def apply(conn: Connection, asked: Sequence[Invoice]) -> list[Settlement]:
        return await settle_group(conn, asked, enqueue_all)

    groups = Breaking(web.gateway.pool, apply)
    answers = await asyncio.gather(*(groups.submit(invoice) for invoice in invoices))
    assert answers == [Settlement.REPEATED] * 3
    settlements = "select count(*) from transfers where cause_kind = 'settlement'"
    assert await web.gateway.pool.fetchval(settlements) == 3


async def test_an_invoice_that_is_not_settled_spoils_its_group(web: Web) -> None:
    job = await web.buy("echo", {})
    open_invoice = await web.node.lookup_invoice(bytes.fromhex(job["invoice"]["paymentHash"]))
    assert open_invoice is not None
    with pytest.raises(ValueError, match="settled"):
        await booked(web, [open_invoice])
    assert (await web.job(job))["state"] == "awaiting_work_payment"
