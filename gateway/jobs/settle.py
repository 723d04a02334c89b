"""An invoice settled. One transaction: record it, post it, move the job's state, enqueue the work or owe it back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum

from gateway.ids import new_id
from gateway.jobs.decisions import JobState, StartWork, on_settlement
from ledger import book, sql, transfers
from ledger.database import Connection, Pool
from ledger.money import sats_to_msat
from lightning.types import Invoice, InvoiceState

_q = sql.load("gateway.jobs")

Enqueue = Callable[[Connection, str], Awaitable[None]]
"""Put the job's work into the queue, inside the caller's transaction."""


class Settlement(StrEnum):
    STARTED = "started"
    OWED_BACK = "owed_back"
    REPEATED = "repeated"
    UNKNOWN_INVOICE = "unknown_invoice"


async def settle(pool: Pool, invoice: Invoice, enqueue: Enqueue) -> Settlement:
    """Book a settlement that LND itself reported; idempotent by payment hash.

    `invoice` is LND's look-up, never a claim of somebody's. What was paid is its `amount_paid_msat`.
    """
    if invoice.state is not InvoiceState.SETTLED or invoice.settled_at is None:
        raise ValueError("only an invoice that LND says is settled can be booked")
    async with pool.acquire() as conn, conn.transaction():
        job = await conn.fetchrow(_q.lock_job_of_invoice, invoice.payment_hash)
        if job is None:
            return Settlement.UNKNOWN_INVOICE
        if not await _record(conn, invoice):
            return Settlement.REPEATED
        return await _apply(conn, job["id"], JobState(job["state"]), job["amount_msat"], invoice, enqueue)


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
    return recorded is not None


async def _apply(
    conn: Connection, job_id: str, state: JobState, amount_msat: int, invoice: Invoice, enqueue: Enqueue
) -> Settlement:
    paid_msat = invoice.amount_paid_msat
    payment_hash = invoice.payment_hash.hex()
    decision = on_settlement(state, amount_msat, paid_msat)
    await book.open_holding(conn, [transfers.holding(job_id)])
    settled = transfers.settlement(payment_hash, job_id, paid_msat)
    if isinstance(decision, StartWork):
        await book.post(conn, settled)
        await conn.execute(_q.start_work, job_id)
        await enqueue(conn, job_id)
        return Settlement.STARTED
    cause = f"late:{payment_hash}"
    owed = transfers.owed_back(cause, job_id, sats_to_msat(decision.refund_sats), decision.sub_sat_msat)
    await book.post(conn, [*settled, *owed])
    await owe(conn, job_id, cause, decision.refund_sats)
    return Settlement.OWED_BACK


async def owe(conn: Connection, job_id: str, cause: str, refund_sats: int) -> None:
    """A debt to the payer, if it is a sat or more; the cause makes it unique."""
    if refund_sats > 0:
        await conn.execute(_q.insert_refund, new_id(), job_id, cause, refund_sats)
