"""An invoice settled. One transaction: record it, reserve the grant, post it, move the state, enqueue or owe back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

from gateway.ids import new_id
from gateway.jobs.decisions import DRAINED, Begin, JobState, Purpose, Stage, on_settlement
from gateway.sessions import deposit
from ledger import book, grants, sql, transfers
from ledger.database import Connection, Pool
from ledger.free_tier import Rules, Serve
from ledger.grants import Ask
from ledger.money import Rest, rest_of
from ledger.transfers import POOL
from lightning.types import Invoice, InvoiceState

_q = sql.load("gateway.jobs")
_evaluation = sql.load("gateway.jobs", "evaluation.sql")

Enqueue = Callable[[Connection, str, Stage], Awaitable[None]]
"""Put a job's stage into the queue, inside the caller's transaction."""


class Settlement(StrEnum):
    STARTED = "started"
    OWED_BACK = "owed_back"
    DRAINED = "drained"
    DONATED = "donated"
    CREDITED = "credited"
    """To a session's balance."""
    REPEATED = "repeated"
    UNKNOWN_INVOICE = "unknown_invoice"


async def settle(pool: Pool, invoice: Invoice, enqueue: Enqueue, rules: Rules) -> Settlement:
    """Book a settlement that LND itself reported; idempotent by payment hash.

    `invoice` is LND's look-up, never a claim of somebody's. What was paid is its `amount_paid_msat`.
    """
    if invoice.state is not InvoiceState.SETTLED or invoice.settled_at is None:
        raise ValueError("only an invoice that LND says is settled can be booked")
    async with pool.acquire() as conn, conn.transaction():
        job = await conn.fetchrow(_q.lock_job_of_invoice, invoice.payment_hash)
        if job is None:
            return await _of_no_job(conn, invoice)
        if not await _record(conn, invoice):
            return Settlement.REPEATED
        return await _apply(conn, job, invoice, enqueue, rules)


async def _of_no_job(conn: Connection, invoice: Invoice) -> Settlement:
    """A donation, or a session's deposit or top-up."""
    known = await conn.fetchrow(_q.invoices_of_hashes, [invoice.payment_hash])
    if known is None:
        return Settlement.UNKNOWN_INVOICE
    session_id = known["session_id"]
    session = None if session_id is None else await deposit.lock_session(conn, session_id)
    if not await _record(conn, invoice):
        return Settlement.REPEATED
    if session is not None:
        credited = await deposit.settle(conn, session, known["purpose"], invoice)
        return Settlement.CREDITED if credited else Settlement.OWED_BACK
    await book.post(conn, transfers.settlement(invoice.payment_hash.hex(), POOL, invoice.amount_paid_msat))
    return Settlement.DONATED


async def _record(conn: Connection, invoice: Invoice) -> bool:
    """Guarded: False when this settlement stands in the books already."""
    recorded = await conn.fetchval(
        _q.settle_invoice,
        invoice.payment_hash,
        invoice.amount_paid_msat,
        invoice.settle_index,
        invoice.settled_at,
        invoice.payment_request,
        invoice.expires_at,
    )
    return bool(recorded)


async def _apply(conn: Connection, job: Any, invoice: Invoice, enqueue: Enqueue, rules: Rules) -> Settlement:
    job_id, paid_msat, payment_hash = job["id"], invoice.amount_paid_msat, invoice.payment_hash.hex()
    decision = on_settlement(Purpose(job["purpose"]), JobState(job["state"]), job["amount_msat"], paid_msat)
    stage = decision.stage if isinstance(decision, Begin) else None
    funded = stage is not Stage.WORK or job["serve"] != Serve.PARTIAL or await _reserve(conn, job, rules)
    holding = transfers.holding(job_id)
    settled = transfers.settlement(payment_hash, holding, paid_msat)
    if stage is not None and funded:
        await book.post(conn, settled, opening=[holding])
        await conn.execute(_q.start_work if stage is Stage.WORK else _evaluation.start_evaluation, job_id)
        await enqueue(conn, job_id, stage)
        return Settlement.STARTED
    cause = f"late:{payment_hash}"
    if stage is not None:
        await conn.execute(_q.fail_unfunded, job_id, DRAINED)
        cause = f"drained:{job_id}"
    await book.post(conn, settled, opening=[holding])
    await owe_back(conn, job_id, cause, rest_of(paid_msat))
    return Settlement.DRAINED if stage is not None else Settlement.OWED_BACK


async def _reserve(conn: Connection, job: Any, rules: Rules) -> bool:
    """The advised part of the pool, all of it or nothing: the work does not run at a discount that nobody funds."""
    ask = Ask(
        f"job:{job['id']}", job["pubkey"], job["client_address"], job["estimate_sats"], bytes(job["request_hash"])
    )
    return await grants.reserve_partial_grant(conn, ask, job["absorb_sats"], rules)


async def owe_back(conn: Connection, job_id: str, cause: str, rest: Rest) -> None:
    """All that is held for it, as a debt to the payer: booked, and due."""
    await book.post(conn, transfers.owed_back(cause, transfers.holding(job_id), rest))
    await owe(conn, job_id, cause, rest.refund_sats)


async def held_msat(conn: Connection, job_id: str) -> int:
    """What the job holds: all that was paid and is not charged or owed back yet. Under the job's lock."""
    return int(await conn.fetchval(_q.holding_msat, transfers.holding(job_id)))


async def owe(conn: Connection, job_id: str, cause: str, refund_sats: int) -> None:
    """A debt to the payer, if it is a sat or more; the cause makes it unique."""
    if refund_sats > 0:
        await conn.execute(_q.insert_refund, new_id(), job_id, cause, refund_sats)
