"""A session is opened, or topped up: the invoice is stored with its preimage first, then LND is asked.

Whatever dies in between, the same `Idempotency-Key` resumes the same session, and the look-up sweep ends what nobody
can pay any more.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.jobs.create import (
    MIN_TIME_LEFT_S,
    Also,
    ClientAddress,
    InvoiceLimits,
    PlannedInvoice,
    plan_invoice,
    planned_again,
    too_many_unpaid,
)
from gateway.problems import Problem
from gateway.sessions.decisions import Entry
from ledger import grants, sql
from ledger.database import Connection
from ledger.money import sats_to_msat

_q = sql.load("gateway.sessions")

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
    is_l402: bool = False
    """Opened by a challenge: its token is a macaroon."""


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
        new.is_l402,
    )
    return await plan(conn, Payer(new.id, new.client_address, new.memo, limits), Entry.DEPOSIT, new.deposit_sats)


async def resume(conn: Connection, new: NewSession, limits: InvoiceLimits) -> PlannedInvoice | None:
    """The deposit invoice of a session whose creation was interrupted; None when LND's answer was stored already.

    A stored preimage is used only before its planned expiry; after that the session gets a new invoice.
    """
    row = await conn.fetchrow(_q.last_deposit, new.id)
    if row is None or row["state"] != "planned":
        return None
    if row["expiry_s"] >= MIN_TIME_LEFT_S:
        return planned_again(row)
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
    return await plan(conn, payer, Entry.TOPUP, amount_sats) if lost is None else planned_again(lost)


async def plan_missing(conn: Connection, payer: Payer, missing_sats: int) -> PlannedInvoice | None:
    """A top-up over what is missing, or one that is unpaid and covers it: being refused costs us no invoice each time.

    The caller holds the session's lock. None: there is no room for one more.
    """
    time_left_s = min(TIME_TO_PAY_S, payer.limits.expiry_s // 2)
    row = await conn.fetchrow(_q.open_topup, payer.session_id, sats_to_msat(missing_sats), time_left_s)
    if row is not None:
        return planned_again(row)
    if not payer.room:
        return None
    try:
        return await plan(conn, payer, Entry.TOPUP, missing_sats)
    except Problem:
        return None
