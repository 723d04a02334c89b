"""Are the books right, and do they say what the node says? Asked of a gateway at rest, and of one under load."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.audit import all_invariants
from gateway.execution.queue import enqueue
from gateway.reconcile.compare import Finding, Kind, compare, totals, under_way_msat
from gateway.reconcile.run import look_again, read_books, read_node, reconcile
from ledger.audit import Violation, find_violations
from ledger.database import Pool
from ledger.free_tier import Rules
from lightning.node import Node


async def violations(pool: Pool) -> list[Violation]:
    """All invariants on one snapshot."""
    async with pool.acquire() as conn:
        return await find_violations(conn, all_invariants())


async def assert_books_and_node_agree(pool: Pool, node: Node, rules: Rules, when: str) -> None:
    """At rest: no violation, no difference, and nothing that a reconciliation would have to book."""
    assert await violations(pool) == [], when
    report = await reconcile(pool, node, enqueue, rules)
    assert report.is_clean, (when, report.to_dict())
    assert report.repaired == [], (when, report.to_dict())


@dataclass(frozen=True, slots=True)
class UnderLoad:
    """The comparison while traffic goes on; it books nothing, so that it can not hide what the gateway forgot."""

    differences: list[Finding]
    unexplained_msat: int
    """What is neither booked nor about to be: 0."""
    unbooked: int
    """Settled a moment ago, the gateway has yet to hear of it."""
    under_way_msat: int


async def compare_under_load(pool: Pool, node: Node) -> UnderLoad:
    """Raises NodeUnavailable."""
    view = await read_node(pool, node, await read_books(pool))
    books = await read_books(pool)
    unfinished = {h for h, attempt in books.attempts.items() if attempt.state == "unfinished"}
    await look_again(node, view, unfinished | {finding.payment_hash for finding in compare(books, view)})
    findings = compare(books, view)
    unbooked = [finding for finding in findings if finding.kind is Kind.SETTLED_UNBOOKED]
    unbooked_msat = sum(view.invoices[finding.payment_hash].amount_paid_msat for finding in unbooked)
    leaving_msat = under_way_msat(books, view)
    return UnderLoad(
        differences=[finding for finding in findings if finding.kind is not Kind.SETTLED_UNBOOKED],
        unexplained_msat=totals(books, view).difference_msat + leaving_msat - unbooked_msat,
        unbooked=len(unbooked),
        under_way_msat=leaving_msat,
    )
