"""The statement of a session: every payment, request and refund, numbered, with the balance after it."""

from __future__ import annotations

from gateway.api.models import StatementLine, StatementView
from gateway.jobs.view import Row
from gateway.sessions.decisions import Entry
from ledger import sql
from ledger.database import Pool
from ledger.money import whole_sats

_q = sql.load("gateway.sessions")


async def read_statement(pool: Pool, session_id: str, after: int, size: int) -> StatementView:
    """At most `size` lines after number `after`, and the totals of all, as of one moment."""
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        totals = await conn.fetchrow(_q.totals, session_id)
        rows = await conn.fetch(_q.statement, session_id, after, size + 1)
    if totals is None:
        raise RuntimeError("an aggregate answers one row")
    return StatementView(
        balance_sats=whole_sats(totals["available_msat"]),
        held_sats=whole_sats(totals["held_msat"]),
        paid_in_sats=whole_sats(totals["paid_in_msat"]),
        charged_sats=whole_sats(totals["charged_msat"]),
        absorbed_sats=totals["absorbed_sats"],
        refunded_sats=whole_sats(totals["refunded_msat"]),
        items=[line(row) for row in rows[:size]],
        next=str(rows[size - 1]["number"]) if len(rows) > size else None,
    )


def line(row: Row) -> StatementLine:
    """Whole sats, so that each balance is the one before plus the change. Pure."""
    balance_msat, change_msat = row["balance_msat"], row["change_msat"]
    return StatementLine(
        number=row["number"],
        kind=row["kind"],
        subject=row["subject"],
        change_sats=whole_sats(balance_msat) - whole_sats(balance_msat - change_msat),
        balance_sats=whole_sats(balance_msat),
        at=row["created_at"],
        work=row["work"],
        state=row["request_state"] if row["kind"] == Entry.REQUEST else row["refund_state"],
        serve=row["serve"],
        estimate_sats=row["estimate_sats"],
        actual_cost_sats=row["actual_cost_sats"],
        absorbed_sats=row["absorbed_sats"],
        failure_reason=row["failure_reason"],
    )
