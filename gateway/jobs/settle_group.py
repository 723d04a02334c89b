"""Settlements of what most jobs are: work that its buyer pays alone, once and in time. A group is one statement.

Everything else (the pool has a part in it, it is late, paid twice, an evaluation, a session's, a donation) is booked
one by one (`settle`). The statement looks again under its locks, and leaves out what has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import asyncpg

from gateway.jobs.decisions import Begin, JobState, Purpose, Stage, on_settlement
from gateway.jobs.view import Row
from ledger import sql, transfers
from ledger.database import Connection
from ledger.free_tier import Serve
from lightning.types import Invoice, InvoiceState

_q = sql.load("gateway.jobs", "groups.sql")


MOST_REMEMBERED = 50_000


@dataclass(frozen=True, slots=True)
class Paid:
    """What LND itself said of an invoice, and the job whose work begins with it."""

    invoice: Invoice
    job_id: str


@dataclass(slots=True)
class PlainInvoices:
    """Invoices for work that its buyer pays alone, as this process opened them: `(job id, amount)` by payment hash.

    None of that ever changes, so that a settlement need not read it. What is not remembered is read.
    """

    _known: dict[bytes, tuple[str, int]] = field(default_factory=dict)

    def opened(self, payment_hash: bytes, job_id: str, amount_msat: int) -> None:
        if len(self._known) >= MOST_REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[payment_hash] = (job_id, amount_msat)

    def begun_by(self, invoice: Invoice) -> Paid | None:
        """The settlement that begins a job's work, if the job still waits for it; remembered no longer."""
        job_id, amount_msat = self._known.pop(invoice.payment_hash, ("", 0))
        waits = begins(JobState.AWAITING_WORK_PAYMENT, amount_msat, invoice)
        return Paid(invoice, job_id) if job_id and waits else None


def begins(state: JobState, amount_msat: int, invoice: Invoice) -> bool:
    """Whether the work of a job in that state begins with an invoice for it. Pure."""
    return on_settlement(Purpose.WORK, state, amount_msat, invoice.amount_paid_msat) == Begin(Stage.WORK)


def begun_by(known: Row, invoice: Invoice) -> Paid | None:
    """Of a row of `invoices_of_hashes`: as `PlainInvoices.begun_by`, as far as that row knows. Pure."""
    if known["purpose"] != Purpose.WORK or known["serve"] != Serve.GATE:
        return None
    waits = begins(JobState(known["job_state"]), known["amount_msat"], invoice)
    return Paid(invoice, known["job_id"]) if waits else None


async def settle_group(conn: Connection, paid: Sequence[Paid]) -> list[bool]:
    """Book settlements in one statement, which is a transaction by itself; each is idempotent by payment hash.

    False: left out, nothing was written for it. One of each job. Locks: jobs by id, then invoices, then holdings.
    """
    if any(one.invoice.state is not InvoiceState.SETTLED or one.invoice.settled_at is None for one in paid):
        raise ValueError("only an invoice that LND says is settled can be booked")
    of_jobs = {one.job_id: one.invoice for one in reversed(paid)}
    begun = {bytes(row["payment_hash"]) for row in await _begin(conn, of_jobs)} if of_jobs else set()
    answers = []
    for one in paid:
        answers.append(one.invoice.payment_hash in begun)
        begun.discard(one.invoice.payment_hash)
    return answers


async def _begin(conn: Connection, of_jobs: dict[str, Invoice]) -> list[asyncpg.Record]:
    invoices = sorted(of_jobs.values(), key=lambda invoice: invoice.payment_hash)
    booked = chain.from_iterable(
        ((invoice.payment_hash, transfer) for transfer in _settlement(job_id, invoice))
        for job_id, invoice in of_jobs.items()
    )
    hashes, posted = zip(*booked, strict=True)
    return await conn.fetch(
        _q.begin_works,
        [invoice.payment_hash for invoice in invoices],
        [invoice.amount_paid_msat for invoice in invoices],
        [invoice.settle_index for invoice in invoices],
        [invoice.settled_at for invoice in invoices],
        [invoice.payment_request for invoice in invoices],
        [invoice.expires_at for invoice in invoices],
        hashes,
        *transfers.columns(posted),
    )


def _settlement(job_id: str, invoice: Invoice) -> tuple[transfers.Transfer, ...]:
    return transfers.settlement(invoice.payment_hash.hex(), transfers.holding(job_id), invoice.amount_paid_msat)
