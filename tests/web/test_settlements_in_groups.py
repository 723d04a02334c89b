"""Settlements in one statement: each is booked once, whatever stands beside it in the group; the rest is left out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from gateway.execution.queue import enqueue
from gateway.jobs.settle import Settlement, settle
from gateway.jobs.settle_group import Paid, PlainInvoices, settle_group
from ledger import book, transfers
from ledger.groups import Groups
from ledger.money import Msat
from ledger.transfers import Transfer, holding
from lightning.types import Invoice, InvoiceState
from tests.waiting import until_somebody_waits
from tests.web.conftest import Web
from tests.web.test_always_honoured import second_invoice


@pytest.fixture
def more_settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """No sweep and no reconciliation, at start neither: what a test settles unheard is its own to book."""

    async def never(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("gateway.serve.reconcile_regularly", never)
    monkeypatch.setattr("gateway.settlement.sweep.Sweep.run", never)
    return {}


def settled_unheard(web: Web, *payment_hashes: bytes) -> list[Invoice]:
    """Settled at the node, and its stream says nothing of it."""
    web.node._up = False
    invoices = [web.node.settle(payment_hash) for payment_hash in payment_hashes]
    web.node._up = True
    return invoices


async def begun(web: Web, paid: Sequence[Paid]) -> list[bool]:
    async with web.gateway.pool.acquire() as conn:
        return await settle_group(conn, paid)


async def alone(web: Web, invoice: Invoice) -> Settlement:
    """What was left out, as its webhook goes on."""
    return await settle(web.gateway.pool, invoice, enqueue, web.gateway.rules)


def payment_hash(job: dict[str, Any]) -> bytes:
    return bytes.fromhex(job["invoice"]["paymentHash"])


async def bought(web: Web, count: int) -> tuple[list[dict[str, Any]], list[Paid]]:
    """Jobs, and their payments that nobody heard of."""
    jobs = [await web.buy("echo", {"cost": 30}) for _ in range(count)]
    invoices = settled_unheard(web, *map(payment_hash, jobs))
    return jobs, [Paid(invoice, job["id"]) for job, invoice in zip(jobs, invoices, strict=True)]


async def test_a_group_books_each_once_and_starts_each_work_once(web: Web) -> None:
    jobs, paid = await bought(web, 5)
    assert await begun(web, [*paid, *paid[:2]]) == [True] * 5 + [False] * 2
    assert await begun(web, paid) == [False] * 5
    assert [await alone(web, one.invoice) for one in paid] == [Settlement.REPEATED] * 5
    for job in jobs:
        await web.until(job, state="complete", refundState="pending", refundAmountSats=70)
    assert len(web.service.orders) == 5


async def test_what_lnd_answered_is_kept_and_what_was_lost_is_taken_from_the_settlement(web: Web) -> None:
    _, (kept, lost) = await bought(web, 2)
    await web.gateway.pool.execute(
        "update invoices set state = 'planned', payment_request = null, expires_at = null where payment_hash = $1",
        lost.invoice.payment_hash,
    )
    expires_at = datetime(2031, 1, 1, tzinfo=UTC)
    told = [replace(paid.invoice, payment_request="lnbcrt-other", expires_at=expires_at) for paid in (kept, lost)]
    assert await begun(web, [Paid(told[0], kept.job_id), Paid(told[1], lost.job_id)]) == [True, True]
    rows = await web.gateway.pool.fetch("select job_id, payment_request, expires_at from invoices")
    stand = {row["job_id"]: (row["payment_request"], row["expires_at"]) for row in rows}
    assert stand[lost.job_id] == ("lnbcrt-other", expires_at)
    assert stand[kept.job_id] == (kept.invoice.payment_request, kept.invoice.expires_at)


async def test_two_invoices_of_one_job_in_one_group(web: Web) -> None:
    """One begins the work, the other is owed back in full."""
    job = await web.buy("echo", {"cost": 30})
    again = await second_invoice(web, job)
    first, second = settled_unheard(web, payment_hash(job), again)
    assert await begun(web, [Paid(first, job["id"]), Paid(second, job["id"])]) == [True, False]
    assert await alone(web, second) is Settlement.OWED_BACK
    await web.until(job, state="complete", refundState="pending", refundAmountSats=170)
    assert len(web.service.orders) == 1


async def test_a_group_waits_for_a_job_that_another_settles(web: Web) -> None:
    """What it finds then is what was committed meanwhile: the work has begun, and one settlement stands already."""
    job = await web.buy("echo", {"cost": 30})
    again = await second_invoice(web, job)
    first, second = (Paid(invoice, job["id"]) for invoice in settled_unheard(web, payment_hash(job), again))
    async with web.gateway.pool.acquire() as conn, conn.transaction():
        assert await settle_group(conn, [first]) == [True]
        waiting = asyncio.create_task(begun(web, [second]))
        repeated = asyncio.create_task(begun(web, [first]))
        await until_somebody_waits(web.gateway.pool, 2)
        free = (
            "select count(*) from (select from invoices where payment_hash = $1 for no key update skip locked) as free"
        )
        assert await web.gateway.pool.fetchval(free, again) == 1, "jobs are locked before invoices are written"
    assert (await waiting, await repeated) == ([False], [False])
    assert await alone(web, second.invoice) is Settlement.OWED_BACK
    assert await alone(web, first.invoice) is Settlement.REPEATED
    await web.until(job, state="complete", refundState="pending", refundAmountSats=170)
    assert len(web.service.orders) == 1


async def test_a_job_that_was_given_up_while_the_group_waited_is_left_out(web: Web) -> None:
    (job,), (paid,) = await bought(web, 1)
    async with web.gateway.pool.acquire() as conn, conn.transaction():
        await conn.execute("update jobs set state = 'expired', updated_at = now() where id = $1", job["id"])
        waiting = asyncio.create_task(begun(web, [paid]))
        await until_somebody_waits(web.gateway.pool)
    assert await waiting == [False]
    assert await alone(web, paid.invoice) is Settlement.OWED_BACK
    await web.until(job, state="expired", refundState="pending", refundAmountSats=100)


async def test_what_no_job_of_ours_knows_is_left_out(web: Web) -> None:
    _, (paid,) = await bought(web, 1)
    stranger = Paid(replace(paid.invoice, payment_hash=bytes(32)), "n" * 22)
    assert await begun(web, [stranger, paid]) == [False, True]


async def test_a_commit_of_unknown_outcome_is_not_booked_twice(web: Web) -> None:
    _, paid = await bought(web, 3)
    lost = 0

    class Breaking(Groups[Paid, bool]):
        async def _apply_to(self, asks: Sequence[Paid]) -> list[bool]:
            nonlocal lost
            answers = await super()._apply_to(asks)
            if not lost:
                lost += 1
                raise ConnectionError("the answer was lost")
            return answers

    groups = Breaking(web.gateway.pool, settle_group, one_statement=True)
    assert await asyncio.gather(*(groups.submit(one) for one in paid)) == [False] * 3
    assert [await alone(web, one.invoice) for one in paid] == [Settlement.REPEATED] * 3
    settlements = "select count(*) from transfers where cause_kind = 'settlement'"
    assert await web.gateway.pool.fetchval(settlements) == 3


async def test_an_invoice_that_is_not_settled_spoils_its_group(web: Web) -> None:
    job = await web.buy("echo", {})
    open_invoice = await web.node.lookup_invoice(payment_hash(job))
    assert open_invoice is not None
    with pytest.raises(ValueError, match="settled"):
        await begun(web, [Paid(open_invoice, job["id"])])
    assert (await web.job(job))["state"] == "awaiting_work_payment"


async def test_a_settlement_that_can_not_be_booked_whole_is_not_recorded_either(web: Web) -> None:
    """Its cause stands in the book already, which nothing of ours does: the statement undoes all that it did."""
    (job,), (paid,) = await bought(web, 1)
    async with web.gateway.pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        other = Transfer("settlement", paid.invoice.payment_hash.hex(), "node", "pool", Msat(1000))
        assert await book.post(conn, [other]) == [other]
        with pytest.raises(asyncpg.CheckViolationError, match="booked whole"):
            async with conn.transaction():
                await settle_group(conn, [paid])
        assert await conn.fetchval("select state from invoices where payment_hash = $1", paid.invoice.payment_hash) == (
            "open"
        )
        await transaction.rollback()
    assert await begun(web, [paid]) == [True]
    await web.until(job, state="complete")


async def test_a_wrong_job_gets_nothing_of_it(web: Web) -> None:
    """What this process remembers of an invoice is no authority: the money is held for the job that has the invoice."""
    (job, other), (paid, _) = await bought(web, 2)
    with pytest.raises(asyncpg.CheckViolationError, match="held for its job"):
        await begun(web, [replace(paid, job_id=other["id"])])
    assert await web.gateway.pool.fetchval("select count(*) from accounts where code = $1", holding(other["id"])) == 0
    assert await begun(web, [paid]) == [True]
    await web.until(job, state="complete")


async def test_what_is_held_is_what_was_paid(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,), (paid,) = await bought(web, 1)

    def less(job_id: str, invoice: Invoice) -> tuple[Transfer, ...]:
        return transfers.settlement(invoice.payment_hash.hex(), holding(job_id), invoice.amount_paid_msat - 1)

    with monkeypatch.context() as patch:
        patch.setattr("gateway.jobs.settle_group._settlement", less)
        with pytest.raises(asyncpg.CheckViolationError, match="held for its job"):
            await begun(web, [paid])
    assert (await web.job(job))["state"] == "awaiting_work_payment"
    assert await begun(web, [paid]) == [True]
    await web.until(job, state="complete")


async def test_what_the_stream_told_is_booked_without_a_look_up(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    async def not_asked(_: bytes) -> Invoice | None:
        raise AssertionError("LND said so already")

    jobs = [await web.buy("echo", {"cost": 30}) for _ in range(3)]
    monkeypatch.setattr(web.node, "lookup_invoice", not_asked)
    for job in jobs:
        web.pay(job)
    for job in jobs:
        await web.until(job, state="complete", refundAmountSats=70)


def test_an_invoice_is_remembered_once_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.jobs.settle_group.MOST_REMEMBERED", 2)
    known = PlainInvoices()
    for n in range(3):
        known.opened(bytes([n]) * 32, f"job {n}", 1000)
    assert [known.begun_by(settled(bytes([n]) * 32, 1000)) is None for n in range(3)] == [True, False, False]
    assert known.begun_by(settled(bytes([1]) * 32, 1000)) is None, "it was told already"
    known.opened(bytes(32), "underpaid", 1001)
    assert known.begun_by(settled(bytes(32), 1000)) is None


def settled(payment_hash: bytes, paid_msat: int) -> Invoice:
    now = datetime.now(UTC)
    msat = Msat(paid_msat)
    return Invoice(payment_hash, "lnbcrt1", "", msat, msat, InvoiceState.SETTLED, now, now, 1, 1, now)
