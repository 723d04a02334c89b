"""Reads both sides, compares, asks the node again about what differs, repairs where the rule is clear."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from gateway.jobs.settle import Enqueue, Settlement, settle
from gateway.metrics import Metrics
from gateway.reconcile.compare import (
    BookedAttempt,
    BookedInvoice,
    Books,
    Finding,
    Kind,
    NodeView,
    compare,
    totals,
    under_way_msat,
)
from gateway.reconcile.report import Report
from gateway.reconcile.strangers import is_ours
from ledger import sql
from ledger.database import Pool
from ledger.free_tier import Rules
from lightning.node import Node
from lightning.types import NodeUnavailable, Unknown

_q = sql.load("gateway.reconcile")
log = logging.getLogger(__name__)

LOOK_S = 5.0


async def reconcile(pool: Pool, node: Node, enqueue: Enqueue, rules: Rules, metrics: Metrics | None = None) -> Report:
    """Compare and repair. An unreachable node is a report that says so; it raises nothing for that.

    Traffic goes on meanwhile: each difference counts only if the node, asked again for that hash, still says so.
    """
    books = await read_books(pool)
    try:
        view = await read_node(pool, node, books)
        books = await read_books(pool)
        await look_again(node, view, _hashes(compare(books, view)) | _unfinished(books))
        findings = compare(books, view)
        repaired = await _repair(pool, enqueue, rules, view, findings)
        if any(finding.kind is Kind.SETTLED_UNBOOKED for finding in findings):
            books = await read_books(pool)
            await look_again(node, view, _hashes(compare(books, view)))
            findings = compare(books, view)
    except NodeUnavailable as error:
        return Report(books.node_account_msat, why_unknown=str(error))
    report = Report(
        books.node_account_msat,
        totals=totals(books, view),
        under_way_msat=under_way_msat(books, view),
        findings=findings,
        repaired=repaired,
    )
    _tell(report, metrics)
    return report


async def read_books(pool: Pool) -> Books:
    """One snapshot."""
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        invoices = await conn.fetch(_q.booked_invoices)
        attempts = await conn.fetch(_q.booked_attempts)
        node_account_msat = await conn.fetchval(_q.node_account)
    return Books(
        {
            bytes(row["payment_hash"]): BookedInvoice(bytes(row["payment_hash"]), row["is_settled"], row["booked_msat"])
            for row in invoices
        },
        {
            bytes(row["payment_hash"]): BookedAttempt(
                row["id"], bytes(row["payment_hash"]), row["state"], row["paid_msat"], row["fee_msat"]
            )
            for row in attempts
        },
        node_account_msat,
    )


async def read_node(pool: Pool, node: Node, books: Books) -> NodeView:
    """The node's lists, as far as they are about us. Raises NodeUnavailable."""
    installation_id = await pool.fetchval(_q.installation_id)
    view = NodeView()
    async for invoice in node.list_invoices():
        if invoice.payment_hash in books.invoices or is_ours(invoice, installation_id):
            view.invoices[invoice.payment_hash] = invoice
    async for payment in node.list_payments():
        # Kept also for attempts that begin while the list is read.
        view.payments[payment.payment_hash] = payment.outcome
    return view


async def look_again(node: Node, view: NodeView, payment_hashes: Iterable[bytes]) -> None:
    """Ask the node for these, one by one. Raises NodeUnavailable."""
    for payment_hash in payment_hashes:
        invoice = await node.lookup_invoice(payment_hash)
        if invoice is not None:
            view.invoices[payment_hash] = invoice
        else:
            view.invoices.pop(payment_hash, None)
            outcome = await node.track_payment(payment_hash, deadline_s=LOOK_S)
            if isinstance(outcome, Unknown):
                raise NodeUnavailable(outcome.why)
            view.payments[payment_hash] = outcome


def _hashes(findings: Iterable[Finding]) -> set[bytes]:
    return {finding.payment_hash for finding in findings}


def _unfinished(books: Books) -> set[bytes]:
    """Their payments may have ended after the list was read; what they moved is part of the totals."""
    return {h for h, attempt in books.attempts.items() if attempt.state == "unfinished"}


async def _repair(pool: Pool, enqueue: Enqueue, rules: Rules, view: NodeView, findings: list[Finding]) -> list[Finding]:
    repaired = []
    for finding in findings:
        if finding.kind is not Kind.SETTLED_UNBOOKED:
            continue
        did = await settle(pool, view.invoices[finding.payment_hash], enqueue, rules)
        if did is not Settlement.REPEATED:
            log.warning(
                "reconciliation: %s: %s", finding.detail, did, extra={"payment_hash": finding.payment_hash.hex()}
            )
            repaired.append(finding)
    return repaired


def _tell(report: Report, metrics: Metrics | None) -> None:
    if metrics is not None:
        metrics.differences.set(len(report.findings))
        strange = [finding for finding in report.findings if finding.kind is Kind.NOT_IN_DATABASE]
        metrics.strange_invoices.set(len(strange))
    for finding in report.findings:
        log.error(
            "ALARM: the books differ from the node: %s: %s",
            finding.kind,
            finding.detail,
            extra={"payment_hash": finding.payment_hash.hex()},
        )
