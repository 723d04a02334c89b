"""A session ends: `closing` refuses requests and top-ups, `closed` owes the rest back; idle ones expire.

`closing` ends when no request runs any more. Before that its open invoices are cancelled at LND; a top-up that settles
meanwhile joins the rest. The refund itself is the refund machine's, like a job's.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from gateway import problems
from gateway.context import Gateway
from gateway.jobs.end_unpaid import cancel_at_node
from gateway.problems import Problem
from gateway.sessions.decisions import ENDED, SessionState
from gateway.sessions.deposit import lock_session, owe_back
from ledger import sql
from ledger.database import Connection, Pool
from ledger.money import rest_of
from lightning.types import NodeUnavailable

_q = sql.load("gateway.sessions")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Begun:
    """`on_file`: the destination stands with what is, or will be, owed. Else the refunds are claimed like a job's."""

    state_before: SessionState
    on_file: bool


async def close(pool: Pool, session_id: str, destination: str | None) -> Begun:
    """Begin to close; an expired session owes back what it still has, and stays expired.

    `destination` (checked) goes on file in the same transaction, before anything is owed.
    """
    async with pool.acquire() as conn, conn.transaction():
        session = await lock_session(conn, session_id)
        if session is None:
            raise RuntimeError("a session vanished: rows are never deleted")
        state = SessionState(session["state"])
        owes_now = state is SessionState.EXPIRED and await _owe_rest(conn, session_id)
        on_file = owes_now or state not in ENDED
        if on_file and destination is not None:
            await conn.execute(_q.set_refund_to, session_id, destination)
        await conn.execute(_q.begin_closing, session_id)
        return Begun(state, on_file)


async def _owe_rest(conn: Connection, session_id: str) -> bool:
    """False: there is nothing."""
    balance_msat = await conn.fetchval(_q.balance_msat, session_id)
    if not balance_msat:
        return False
    await owe_back(conn, session_id, f"rest:{session_id}", rest_of(balance_msat))
    return True


async def give_up(gateway: Gateway, session_id: str) -> None:
    """A session whose deposit was not paid: `expired` once LND says CANCELED. Raises Problem, NodeUnavailable."""
    if not await cancel_at_node(gateway.pool, gateway.node, session_id):
        gateway.sweep_wake.set()
        raise paid_just_now()


def paid_just_now() -> Problem:
    """Pure."""
    return Problem(problems.SESSION_NOT_ACTIVE, "Its deposit was paid just now. Close it again in a moment.")


async def finish(gateway: Gateway, session_id: str) -> bool:
    """Close it if nothing runs any more. False: not yet; the sweep tries again. Raises nothing for a node away."""
    try:
        if not await cancel_at_node(gateway.pool, gateway.node, session_id):
            gateway.sweep_wake.set()  # a top-up was paid meanwhile: it is booked first, and joins the rest
            return False
    except NodeUnavailable as error:
        log.info("a session waits for the node to close: %s", error, extra={"session_id": session_id})
        return False
    async with gateway.pool.acquire() as conn, conn.transaction():
        await lock_session(conn, session_id)
        if await conn.fetchval(_q.end_closing, session_id) is None:
            return False
        await _owe_rest(conn, session_id)
    gateway.on_file_wake.set()
    log.info("session closed", extra={"session_id": session_id})
    return True


async def expire_idle(pool: Pool, idle_days: int) -> None:
    """Sessions that nobody used for so long. Their balance stays refundable for ever."""
    for row in await pool.fetch(_q.idle_sessions, idle_days):
        async with pool.acquire() as conn, conn.transaction():
            await lock_session(conn, row["id"])
            if await conn.fetchval(_q.expire_idle, row["id"], idle_days):
                log.info("session expired idle", extra={"session_id": row["id"]})
