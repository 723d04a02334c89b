"""A job as its reader sees it: one statement, one pure mapping to the wire's `Job`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from gateway.api.models import EvaluationView, InvoiceView, JobView
from gateway.jobs.decisions import DONATED, RefundState, refund_summary, wire_state
from gateway.refunds.claim import below_minimum
from ledger.database import from_jsonb
from ledger.money import whole_sats
from lightning.types import Invoice


class Row(Protocol):
    """A row of the block `jobs`."""

    def __getitem__(self, name: str, /) -> Any: ...


def job_view(row: Row, refund_min_sats: int = 1) -> JobView:
    refunds: list[tuple[str, int]] = from_jsonb(row["refunds"]) or []
    refund_state, refund_sats = refund_summary((wire_state(state), sats) for state, sats in refunds)
    donated_sats = sum(sats for state, sats in refunds if state == DONATED)
    return JobView(
        id=row["id"],
        work=row["work"],
        state=row["state"],
        serve=row["serve"],
        estimate_sats=row["estimate_sats"],
        absorb_sats=row["absorb_sats"],
        work_amount_sats=row["work_amount_sats"],
        evaluation=_evaluation_view(row),
        invoice=invoice_view(row),
        result=from_jsonb(row["result"]),
        actual_cost_sats=row["actual_cost_sats"],
        absorbed_sats=row["absorbed_sats"],
        user_charge_sats=row["user_charge_sats"],
        refund_state=refund_state.value,
        refund_amount_sats=refund_sats,
        refund_donated_sats=donated_sats or None,
        refund_to=row["refund_to"],
        refund_problem=refund_problem(row, refund_state, refund_sats, refund_min_sats),
        failure_reason=row["failure_reason"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def open_invoice_view(invoice: Invoice) -> InvoiceView:
    """An invoice that LND has just opened."""
    return InvoiceView(
        payment_request=invoice.payment_request,
        payment_hash=invoice.payment_hash.hex(),
        amount_sats=whole_sats(invoice.amount_msat),
        expires_at=invoice.expires_at,
        state="open",
    )


def _evaluation_view(row: Row) -> EvaluationView | None:
    if row["fee_sats"] is None:
        return None
    return EvaluationView(
        fee_sats=row["fee_sats"],
        outcome=row["evaluation_outcome"],
        charged_sats=row["fee_charged_sats"],
        absorbed_sats=row["fee_absorbed_sats"],
    )


def invoice_view(row: Row) -> InvoiceView | None:
    if row["invoice_request"] is None:
        return None
    expires_at: datetime = row["invoice_expires_at"]
    paid_msat = row["invoice_paid_msat"]
    return InvoiceView(
        payment_request=row["invoice_request"],
        payment_hash=row["invoice_hash"],
        amount_sats=whole_sats(row["invoice_amount_msat"]),
        expires_at=expires_at,
        state="open" if row["invoice_state"] == "planned" else row["invoice_state"],
        amount_paid_sats=None if paid_msat is None else whole_sats(paid_msat),
    )


def refund_problem(row: Row, state: RefundState, open_sats: int, min_sats: int) -> str | None:
    """Why a refund still waits: too small, the last attempt's end, or what is wrong with the destination on file.

    While it is on its way: why the last send failed, until the next one leaves.
    """
    if state is RefundState.PAYING:
        failure: str | None = row["refund_failure"]
        return failure
    if state is not RefundState.PENDING:
        return None
    if too_small := below_minimum(open_sats, min_sats):
        return too_small
    why: str | None = row["refund_to_error"] or row["refund_failure"]
    return why
