"""What a reconciliation found, as values and as JSON. An unreachable node is unknown, never zero."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.reconcile.compare import Finding, Totals


@dataclass(frozen=True, slots=True)
class Report:
    book_msat: int
    """The book's account `node`."""
    why_unknown: str | None = None
    """The node did not answer: nothing is known of its side."""
    totals: Totals | None = None
    under_way_msat: int = 0
    """Paid by the node for attempts that the executor has yet to book; it explains that much of the difference."""
    findings: list[Finding] = field(default_factory=list)
    repaired: list[Finding] = field(default_factory=list)

    @property
    def is_known(self) -> bool:
        return self.totals is not None

    @property
    def is_clean(self) -> bool:
        """Nothing differs any more."""
        return self.totals is not None and not self.findings and self.totals.difference_msat == -self.under_way_msat

    def to_dict(self) -> dict[str, Any]:
        """For the wire and `--json`; what is unknown is null, never 0."""
        totals = self.totals
        return {
            "known": self.is_known,
            "clean": self.is_clean,
            "whyUnknown": self.why_unknown,
            "bookMsat": self.book_msat,
            "nodeMsat": totals and totals.node_msat,
            "settledMsat": totals and totals.settled_msat,
            "paidOutMsat": totals and totals.paid_out_msat,
            "feesMsat": totals and totals.fees_msat,
            "underWayMsat": self.under_way_msat if totals else None,
            "differenceMsat": totals and totals.difference_msat,
            "differences": [_finding(finding, repaired=False) for finding in self.findings],
            "repaired": [_finding(finding, repaired=True) for finding in self.repaired],
        }


def _finding(finding: Finding, *, repaired: bool) -> dict[str, Any]:
    return {
        "kind": finding.kind.value,
        "paymentHash": finding.payment_hash.hex(),
        "detail": finding.detail,
        "repaired": repaired,
    }
