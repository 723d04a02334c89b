"""Truth table of the reconciliation: what differs, under which hash, and what the totals say."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.reconcile.compare import (
    BookedAttempt,
    BookedInvoice,
    Books,
    Kind,
    NodeView,
    compare,
    totals,
    under_way_msat,
)
from ledger.money import Msat
from lightning.types import (
    Failed,
    FailureReason,
    InFlight,
    Invoice,
    InvoiceState,
    NotFound,
    PaymentOutcome,
    Settled,
)

HASH = bytes(32)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PAID = Settled(b"", Msat(5000), Msat(7), 1)
FAILED = Failed(FailureReason.NO_ROUTE, 1)
UNBOOKED = BookedInvoice(HASH, is_settled=False, booked_msat=0)
BOOKED = BookedInvoice(HASH, is_settled=True, booked_msat=9000)


def invoice(state: InvoiceState, paid_msat: int = 0) -> Invoice:
    return Invoice(HASH, "ln", "", Msat(9000), Msat(paid_msat), state, NOW, NOW, 1, 0, None)


def attempt(state: str, paid_msat: int = 0, fee_msat: int = 0) -> BookedAttempt:
    return BookedAttempt("a", HASH, state, paid_msat, fee_msat)


@pytest.mark.parametrize(
    ("booked", "seen", "kind"),
    [
        (UNBOOKED, None, None),
        (UNBOOKED, invoice(InvoiceState.OPEN), None),
        (UNBOOKED, invoice(InvoiceState.CANCELED), None),
        (UNBOOKED, invoice(InvoiceState.SETTLED, 9000), Kind.SETTLED_UNBOOKED),
        (BOOKED, invoice(InvoiceState.SETTLED, 9000), None),
        (BOOKED, invoice(InvoiceState.SETTLED, 9001), Kind.AMOUNT_RECEIVED_DIFFERS),
        (BOOKED, invoice(InvoiceState.OPEN), Kind.BOOKED_NOT_SETTLED),
        (BOOKED, invoice(InvoiceState.CANCELED), Kind.BOOKED_NOT_SETTLED),
        (BOOKED, None, Kind.BOOKED_NOT_SETTLED),
        (None, invoice(InvoiceState.OPEN), Kind.NOT_IN_DATABASE),
        (None, invoice(InvoiceState.SETTLED, 9000), Kind.NOT_IN_DATABASE),
    ],
)
def test_what_was_received(booked: BookedInvoice | None, seen: Invoice | None, kind: Kind | None) -> None:
    books = Books({HASH: booked} if booked else {}, {}, 0)
    node = NodeView({HASH: seen} if seen else {})
    assert [finding.kind for finding in compare(books, node)] == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("booked", "outcome", "kind"),
    [
        (attempt("paid", 5000, 7), PAID, None),
        (attempt("paid", 5000, 6), PAID, Kind.AMOUNT_PAID_DIFFERS),
        (attempt("paid", 4000, 7), PAID, Kind.AMOUNT_PAID_DIFFERS),
        (attempt("paid", 5000, 7), FAILED, Kind.PAID_NOT_AT_NODE),
        (attempt("paid", 5000, 7), InFlight(), Kind.PAID_NOT_AT_NODE),
        (attempt("paid", 5000, 7), NotFound(), Kind.PAID_NOT_AT_NODE),
        (attempt("paid", 5000, 7), None, Kind.PAID_NOT_AT_NODE),
        (attempt("failed"), PAID, Kind.PAID_UNBOOKED),
        (attempt("frozen"), PAID, Kind.PAID_UNBOOKED),
        (attempt("failed"), FAILED, None),
        (attempt("frozen"), None, None),
        (attempt("unfinished"), PAID, None),
        (attempt("unfinished"), InFlight(), None),
        (attempt("unfinished"), None, None),
    ],
)
def test_what_was_paid_out(booked: BookedAttempt, outcome: PaymentOutcome | None, kind: Kind | None) -> None:
    books = Books({}, {HASH: booked}, 0)
    node = NodeView({}, {HASH: outcome} if outcome else {})
    assert [finding.kind for finding in compare(books, node)] == ([kind] if kind else [])


def test_totals_are_over_own_hashes_only() -> None:
    books = Books({HASH: BOOKED}, {HASH: attempt("unfinished")}, 9000)
    node = NodeView({HASH: invoice(InvoiceState.SETTLED, 9000)}, {HASH: PAID, b"of somebody else": PAID})
    found = totals(books, node)
    assert (found.settled_msat, found.paid_out_msat, found.fees_msat) == (9000, 5000, 7)
    assert found.node_msat == 9000 - 5000 - 7
    assert found.difference_msat == -under_way_msat(books, node) == -5007
