"""A job that was not paid ends: `expired` is said only when LND can no longer take money for it."""

from __future__ import annotations

from enum import StrEnum

from gateway.sessions import deposit
from ledger import sql
from ledger.database import Pool
from lightning.node import Node
from lightning.types import CancelOutcome, Invoice, InvoiceState

_q = sql.load("gateway.jobs")


class Unpaid(StrEnum):
    """What the look at LND meant for an invoice that our books hold open."""

    STILL_OPEN = "still_open"
    GONE = "gone"
    SETTLED = "settled"


def unpaid_invoice(found: Invoice | None, *, past_expiry: bool) -> Unpaid:
    """Pure: LND's look-up decides, never our clock alone. `found` None means LND does not know the invoice."""
    if found is None:
        return Unpaid.GONE if past_expiry else Unpaid.STILL_OPEN
    if found.state is InvoiceState.SETTLED:
        return Unpaid.SETTLED
    return Unpaid.GONE if found.state is InvoiceState.CANCELED else Unpaid.STILL_OPEN


async def record_open(pool: Pool, found: Invoice) -> None:
    """LND knows an invoice whose answer we never saw: store it."""
    await pool.execute(_q.record_open, found.payment_hash, found.payment_request, found.expires_at)


async def record_gone(pool: Pool, payment_hash: bytes) -> bool:
    """The invoice can not be paid any more; its job or session expires when no other can be.

    True: it expired now.
    """
    async with pool.acquire() as conn, conn.transaction():
        known = await conn.fetchrow(_q.invoices_of_hashes, [payment_hash])
        if known is None:
            return False
        if known["job_id"] is not None:
            await conn.fetchrow(_q.lock_job, known["job_id"])
        if known["session_id"] is not None:
            await deposit.lock_session(conn, known["session_id"])
        gone = await conn.fetchrow(_q.cancel_invoice, payment_hash)
        if gone is not None and known["session_id"] is not None:
            return await deposit.expire_unpaid(conn, known["session_id"])
        if gone is None or known["job_id"] is None:
            return False
        return await conn.fetchval(_q.expire_job, known["job_id"]) is not None


async def cancel_at_node(pool: Pool, node: Node, job_id: str) -> bool:
    """Cancel all open invoices of the job (or session: either's id) at LND first, then here.

    False: LND says one of them is settled, so it is paid. Raises NodeUnavailable: nothing has changed here.
    """
    for row in await pool.fetch(_q.open_invoices_of_job, job_id):
        payment_hash = bytes(row["payment_hash"])
        outcome = await node.cancel_invoice(payment_hash)
        if outcome is CancelOutcome.SETTLED:
            return False
        if outcome is CancelOutcome.CANCELED:
            await record_gone(pool, payment_hash)
    return True


async def forget_inputs(pool: Pool) -> None:
    """Inputs of jobs that expired a week ago, unpaid."""
    await pool.execute(_q.forget_inputs)
