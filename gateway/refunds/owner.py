"""Whose debt a refund is: a job's or a session's. `job_id` of refunds and attempts names the owner, whichever it is."""

from __future__ import annotations

from typing import Any

from ledger import sql
from ledger.database import Connection

_q = sql.load("gateway.refunds")


async def lock_owner(conn: Connection, owner_id: str) -> Any | None:
    """`id, state, refund_to, has_ended`, locked before its refunds; None: there is no such owner."""
    return await conn.fetchrow(_q.lock_job, owner_id) or await conn.fetchrow(_q.lock_session, owner_id)
