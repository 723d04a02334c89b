"""A session as its reader sees it: one statement, one pure mapping to the wire."""

from __future__ import annotations

from gateway.api.models import SessionResultView, SessionView
from gateway.jobs.decisions import RefundState, refund_summary
from gateway.jobs.view import Row, invoice_view, refund_problem
from ledger import sql
from ledger.database import Pool, from_jsonb
from ledger.money import whole_sats

_q = sql.load("gateway.sessions")


async def read_session(pool: Pool, session_id: str, refund_min_sats: int = 1) -> SessionView | None:
    row = await pool.fetchrow(_q.session, session_id)
    return None if row is None else session_view(row, refund_min_sats)


def session_view(row: Row, refund_min_sats: int = 1) -> SessionView:
    refund_state, refund_sats = refund_summary(
        (RefundState(state), sats) for state, sats in from_jsonb(row["refunds"]) or ()
    )
    return SessionView(
        id=row["id"],
        state=row["state"],
        balance_sats=whole_sats(row["available_msat"]),
        held_sats=whole_sats(row["held_msat"]),
        deposit_sats=row["deposit_sats"],
        pubkey=row["pubkey"],
        invoice=invoice_view(row),
        refund_state=refund_state.value,
        refund_amount_sats=refund_sats,
        refund_to=row["refund_to"],
        refund_problem=refund_problem(row, refund_state, refund_sats, refund_min_sats),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def result_view(row: Row) -> SessionResultView:
    """Of a complete request: a row of the block `request`."""
    return SessionResultView(
        id=row["id"],
        result=from_jsonb(row["result"]),
        serve=row["serve"],
        estimate_sats=row["estimate_sats"],
        actual_cost_sats=row["actual_cost_sats"],
        absorbed_sats=row["absorbed_sats"],
        charged_sats=row["charged_sats"],
        balance_sats=row["balance_sats"],
    )
