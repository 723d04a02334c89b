"""Money comes in: a deposit or top-up settled, or its invoice can not be paid any more. In the caller's transaction."""

from __future__ import annotations

from typing import Any

from gateway.ids import new_id
from gateway.sessions.decisions import Credit, Entry, SessionState, on_settlement
from ledger import book, sql, transfers
from ledger.database import Connection
from ledger.money import Rest, sats_to_msat
from lightning.types import Invoice

_q = sql.load("gateway.sessions")


async def lock_session(conn: Connection, session_id: str) -> Any | None:
    """The session's row, locked; None: there is no such session."""
    return await conn.fetchrow(_q.lock_session, session_id)


async def settle(conn: Connection, session: Any, purpose: str, invoice: Invoice) -> bool:
    """Credit what LND says was paid, or owe it back when the session has ended (False). The caller holds the lock."""
    session_id, paid_msat, payment_hash = session["id"], invoice.amount_paid_msat, invoice.payment_hash.hex()
    available = transfers.available(session_id)
    credited = transfers.settlement(payment_hash, available, paid_msat)
    await book.post(conn, credited, opening=[available, transfers.held(session_id)])
    await enter(conn, session_id, Entry(purpose), payment_hash, paid_msat)
    match on_settlement(SessionState(session["state"]), paid_msat):
        case Credit(activates=True):
            await conn.execute(_q.activate, session_id)
        case Credit():
            await conn.execute(_q.touch, session_id)
        case Rest() as rest:
            await owe_back(conn, session_id, f"late:{payment_hash}", rest)
            return False
    return True


async def owe_back(conn: Connection, session_id: str, cause: str, rest: Rest) -> None:
    """A debt to the session's owner, unique by its cause: booked, entered, and due."""
    refund_msat = sats_to_msat(rest.refund_sats)
    await book.post(conn, transfers.owed_back(cause, transfers.available(session_id), rest))
    if rest.refund_sats:
        await conn.execute(_q.insert_refund, new_id(), session_id, cause, rest.refund_sats)
        await enter(conn, session_id, Entry.REFUND, cause, -refund_msat)
    if rest.sub_sat_msat:
        await enter(conn, session_id, Entry.SUB_SAT, cause, -rest.sub_sat_msat)


async def enter(conn: Connection, session_id: str, kind: Entry, subject: str, change_msat: int) -> None:
    """The next line of the statement; the caller holds the session's lock."""
    await conn.execute(_q.insert_entry, session_id, kind.value, subject, change_msat)


async def expire_unpaid(conn: Connection, session_id: str) -> bool:
    """True: it waited for its deposit, and nothing can be paid any more. The caller holds the lock."""
    return await conn.fetchval(_q.expire_unpaid, session_id) is not None
