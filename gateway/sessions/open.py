"""A session is opened, or topped up: the invoice is stored with its preimage first, then LND is asked.

Whatever dies in between, the same `Idempotency-Key` resumes the same session, and the look-up sweep ends what nobody
can pay any more.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.jobs.create import Also, ClientAddress, InvoiceLimits, PlannedInvoice, plan_invoice, too_many_unpaid
from gateway.jobs.view import Row
from gateway.problems import Problem
from gateway.sessions.decisions import Entry
from ledger import grants, sql
from ledger.database import Connection, Pool
from ledger.money import Msat, sats_to_msat
from lightning.node import Node
from lightning.types import Invoice, InvoiceConflict

_q = sql.load("gateway.sessions")
_jobs = sql.load("gateway.jobs")

TIME_TO_PAY_S = 60
"""An unpaid top-up with less time left is not offered again."""


@dataclass(frozen=True, slots=True)
class NewSession:
    id: str
    token_hash: bytes
    refund_key_hash: bytes
    deposit_sats: int
    refund_to: str | None
    client_address: ClientAddress
    pubkey: str | None
    memo: str


@dataclass(frozen=True, slots=True)
class Payer:
    """For whom an invoice of a session is opened."""

    session_id: str
    client_address: ClientAddress
    memo: str
    limits: InvoiceLimits
    room: bool = True
    """Whether one more may be opened, as far as all that are open together go."""


async def store(conn: Connection, new: NewSession, limits: InvoiceLimits, also: Also | None) -> PlannedInvoice:
    """Session and planned invoice, in the caller's transaction. Raises Problem."""
    if also is not None:
        await also.run(conn)
    if new.pubkey is not None:
        await grants.know(conn, new.pubkey)
    await conn.execute(
        _q.insert_session,
        new.id,
        new.token_hash,
        new.refund_key_hash,
        new.pubkey,
        new.client_address,
        new.deposit_sats,
        new.refund_to,
    )
    return await plan(conn, Payer(new.id, new.client_address, new.memo, limits), Entry.DEPOSIT, new.deposit_sats)


async def resume(conn: Connection, new: NewSession, limits: InvoiceLimits) -> PlannedInvoice | None:
    """The deposit invoice of a session whose creation was interrupted; None when LND's answer was stored already.

    A stored preimage is used only before its planned expiry; after that the session gets a new invoice.
    """
    row = await conn.fetchrow(_q.last_deposit, new.id)
    if row is None or row["state"] != "planned":
        return None
    if row["expiry_s"] >= 10:
        return _planned(row)
    return await plan(conn, Payer(new.id, new.client_address, new.memo, limits), Entry.DEPOSIT, new.deposit_sats)


async def plan(conn: Connection, payer: Payer, kind: Entry, amount_sats: int) -> PlannedInvoice:
    """A planned invoice of the session. Raises Problem: too many are open for this address."""
    planned = plan_invoice(amount_sats, payer.memo, payer.limits.expiry_s)
    stored = await conn.fetchval(
        _q.insert_invoice,
        planned.payment_hash,
        planned.preimage,
        kind.value,
        payer.session_id,
        payer.client_address,
        planned.amount_msat,
        planned.memo,
        planned.expiry_s,
        payer.limits.open_per_address,
    )
    if stored is None:
        raise too_many_unpaid(payer.limits)
    return planned


async def plan_topup(conn: Connection, payer: Payer, amount_sats: int, *, resumed: bool) -> PlannedInvoice:
    """The caller holds the session's lock. `resumed`: one whose answer was lost is asked for again. Raises Problem."""
    lost = await conn.fetchrow(_q.planned_topup, payer.session_id, sats_to_msat(amount_sats)) if resumed else None
    await conn.execute(_q.touch, payer.session_id)
    return await plan(conn, payer, Entry.TOPUP, amount_sats) if lost is None else _planned(lost)


def _planned(row: Row) -> PlannedInvoice:
    return PlannedInvoice(bytes(row["preimage"]), Msat(row["amount_msat"]), row["memo"], row["expiry_s"])


async def plan_missing(conn: Connection, payer: Payer, missing_sats: int) -> PlannedInvoice | None:
    """A top-up over what is missing, or one that is unpaid and covers it: being refused costs us no invoice each time.

    The caller holds the session's lock. None: there is no room for one more.
    """
    time_left_s = min(TIME_TO_PAY_S, payer.limits.expiry_s // 2)
    row = await conn.fetchrow(_q.open_topup, payer.session_id, sats_to_msat(missing_sats), time_left_s)
    if row is not None:
        return _planned(row)
    if not payer.room:
        return None
    try:
        return await plan(conn, payer, Entry.TOPUP, missing_sats)
    except Problem:
        return None


async def open_at_node(pool: Pool, node: Node, planned: PlannedInvoice) -> Invoice:
    """Ask LND for the invoice (the same preimage is the same invoice) and store its answer.

    Raises NodeUnavailable, InvoiceConflict (a fault: 500).
    """
    invoice = await node.add_invoice(planned.preimage, planned.amount_msat, planned.memo, planned.expiry_s)
    if invoice.amount_msat != planned.amount_msat:
        raise InvoiceConflict("LND answered with another amount than was asked for")
    await pool.execute(_jobs.record_open, planned.payment_hash, invoice.payment_request, invoice.expires_at)
    return invoice
