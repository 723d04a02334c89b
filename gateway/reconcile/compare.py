"""What differs between the books and the node, as one pure function. Amounts are msat.

Truth table: tests/unit/test_reconcile_compare.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lightning.types import Invoice, InvoiceState, PaymentOutcome, Settled


class Kind(StrEnum):
    SETTLED_UNBOOKED = "settled_unbooked"
    """The rule is clear: it is booked as any settlement."""
    AMOUNT_RECEIVED_DIFFERS = "amount_received_differs"
    BOOKED_NOT_SETTLED = "booked_not_settled"
    NOT_IN_DATABASE = "not_in_database"
    """It carries this database's id: an older backup of the database was restored."""
    PAID_NOT_AT_NODE = "paid_not_at_node"
    AMOUNT_PAID_DIFFERS = "amount_paid_differs"
    PAID_UNBOOKED = "paid_unbooked"
    """The node paid for an attempt that the books do not call paid."""


@dataclass(frozen=True, slots=True)
class BookedInvoice:
    payment_hash: bytes
    is_settled: bool
    booked_msat: int
    """What the book received under this hash; 0 when nothing."""


@dataclass(frozen=True, slots=True)
class BookedAttempt:
    id: str
    payment_hash: bytes
    state: str
    """`unfinished`, `paid`, `failed` or `frozen`."""
    paid_msat: int
    """Booked as paid out, without the fee; 0 when nothing."""
    fee_msat: int


@dataclass(frozen=True, slots=True)
class Books:
    """One snapshot of the database."""

    invoices: Mapping[bytes, BookedInvoice]
    attempts: Mapping[bytes, BookedAttempt]
    node_account_msat: int
    """Balance of the account `node`."""


@dataclass(slots=True)
class NodeView:
    """What the node says of our own hashes: invoices with our id in their memo, payments of our attempts."""

    invoices: dict[bytes, Invoice] = field(default_factory=dict)
    payments: dict[bytes, PaymentOutcome] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    kind: Kind
    payment_hash: bytes
    detail: str


@dataclass(frozen=True, slots=True)
class Totals:
    """Over our own payment hashes, as the node has them; `book_msat` is the book's account `node`."""

    settled_msat: int
    paid_out_msat: int
    fees_msat: int
    book_msat: int

    @property
    def node_msat(self) -> int:
        return self.settled_msat - self.paid_out_msat - self.fees_msat

    @property
    def difference_msat(self) -> int:
        return self.node_msat - self.book_msat


def compare(books: Books, node: NodeView) -> list[Finding]:
    """Each difference once, under its payment hash. Unfinished attempts are the executor's."""
    return [*_received(books, node), *_paid_out(books, node)]


def totals(books: Books, node: NodeView) -> Totals:
    settled = [i.amount_paid_msat for i in node.invoices.values() if i.state is InvoiceState.SETTLED]
    paid = [p for h, p in node.payments.items() if h in books.attempts and isinstance(p, Settled)]
    return Totals(
        sum(settled), sum(p.amount_msat for p in paid), sum(p.fee_msat for p in paid), books.node_account_msat
    )


def under_way_msat(books: Books, node: NodeView) -> int:
    """What left the node for attempts that the executor has yet to book: no difference, only a moment."""
    return sum(
        payment.amount_msat + payment.fee_msat
        for payment_hash, payment in node.payments.items()
        if isinstance(payment, Settled)
        and (attempt := books.attempts.get(payment_hash)) is not None
        and attempt.state == "unfinished"
    )


def _received(books: Books, node: NodeView) -> Iterator[Finding]:
    for payment_hash, invoice in node.invoices.items():
        if payment_hash not in books.invoices:
            says = f"the node's invoice is {invoice.state}, {invoice.amount_paid_msat} msat; the database lacks it"
            yield Finding(Kind.NOT_IN_DATABASE, payment_hash, says)
    for payment_hash, booked in books.invoices.items():
        seen = node.invoices.get(payment_hash)
        received_msat = seen.amount_paid_msat if seen is not None and seen.state is InvoiceState.SETTLED else None
        if booked.is_settled or booked.booked_msat:
            if received_msat is None:
                says = f"booked {booked.booked_msat} msat, the node says {seen.state if seen else 'unknown invoice'}"
                yield Finding(Kind.BOOKED_NOT_SETTLED, payment_hash, says)
            elif received_msat != booked.booked_msat:
                says = f"booked {booked.booked_msat} msat, the node received {received_msat} msat"
                yield Finding(Kind.AMOUNT_RECEIVED_DIFFERS, payment_hash, says)
        elif received_msat is not None:
            yield Finding(
                Kind.SETTLED_UNBOOKED, payment_hash, f"the node received {received_msat} msat, booked nothing"
            )


def _paid_out(books: Books, node: NodeView) -> Iterator[Finding]:
    for payment_hash, attempt in books.attempts.items():
        outcome = node.payments.get(payment_hash)
        paid = outcome if isinstance(outcome, Settled) else None
        if attempt.state == "paid":
            booked = f"attempt {attempt.id}: booked {attempt.paid_msat} + fee {attempt.fee_msat} msat"
            if paid is None:
                yield Finding(Kind.PAID_NOT_AT_NODE, payment_hash, f"{booked}, the node knows no such payment")
            elif (paid.amount_msat, paid.fee_msat) != (attempt.paid_msat, attempt.fee_msat):
                says = f"{booked}, the node paid {paid.amount_msat} + {paid.fee_msat} msat"
                yield Finding(Kind.AMOUNT_PAID_DIFFERS, payment_hash, says)
        elif attempt.state != "unfinished" and paid is not None:
            says = f"attempt {attempt.id} is {attempt.state}, the node paid {paid.amount_msat} + {paid.fee_msat} msat"
            yield Finding(Kind.PAID_UNBOOKED, payment_hash, says)
