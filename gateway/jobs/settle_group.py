"""Settlements of what most jobs are: work that its buyer pays alone. A group of them is one transaction.

What the pool has a part in, evaluations, sessions and donations are booked one by one (`settle`), each in the order of
its own locks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from gateway.jobs.decisions import Begin, JobState, Purpose, Stage, on_settlement
from gateway.jobs.settle import Settlement, owe_back
from gateway.jobs.view import Row
from ledger import book, sql, transfers
from ledger.database import Connection
from ledger.free_tier import Serve
from ledger.money import Rest
from lightning.types import Invoice, InvoiceState

_q = sql.load("gateway.jobs")

EnqueueAll = Callable[[Connection, Sequence[str], Stage], Awaitable[None]]
"""Put these jobs' stage into the queue, inside the caller's transaction."""


def goes_with_others(known: Row) -> bool:
    """Of a row of `invoices_of_hashes`; what it reads never changes once there is an invoice for work. Pure."""
    return bool(known["purpose"] == Purpose.WORK and known["serve"] == Serve.GATE)


async def settle_group(conn: Connection, invoices: Sequence[Invoice], enqueue_all: EnqueueAll) -> list[Settlement]:
    """Book settlements that LND itself reported, in the caller's transaction; each is idempotent by payment hash.

    All are of jobs that go with others. Locks: jobs by id, then invoices, then holdings.
    """
    if any(invoice.state is not InvoiceState.SETTLED or invoice.settled_at is None for invoice in invoices):
        raise ValueError("only an invoice that LND says is settled can be booked")
    jobs = {bytes(row["payment_hash"]): row for row in await _record(conn, invoices)}
    if any(not goes_with_others(row) for row in jobs.values()):
        raise ValueError("the pool has a part in one of these")
    begun, owed, answers = _decide(jobs, invoices)
    await _post(conn, jobs, [*begun, *(invoice for invoice, _ in owed)])
    if begun:
        job_ids = [jobs[invoice.payment_hash]["id"] for invoice in begun]
        await conn.execute(_q.start_works, job_ids)
        await enqueue_all(conn, job_ids, Stage.WORK)
    for invoice, rest in owed:
        await owe_back(conn, jobs[invoice.payment_hash]["id"], f"late:{invoice.payment_hash.hex()}", rest)
    return answers


async def _record(conn: Connection, invoices: Sequence[Invoice]) -> list[Any]:
    """Guarded: the jobs of these, locked, each with whether its settlement was `recorded` now."""
    invoices = sorted(invoices, key=lambda invoice: invoice.payment_hash)
    return await conn.fetch(
        _q.settle_invoices,
        [invoice.payment_hash for invoice in invoices],
        [invoice.amount_paid_msat for invoice in invoices],
        [invoice.settle_index for invoice in invoices],
        [invoice.settled_at for invoice in invoices],
        [invoice.payment_request for invoice in invoices],
        [invoice.expires_at for invoice in invoices],
    )


def _decide(
    jobs: Mapping[bytes, Any], invoices: Sequence[Invoice]
) -> tuple[list[Invoice], list[tuple[Invoice, Rest]], list[Settlement]]:
    """`(what begins its job's work, what is owed back, an answer for each)`. One job begins once. Pure."""
    states = {row["id"]: JobState(row["state"]) for row in jobs.values()}
    begun: list[Invoice] = []
    owed: list[tuple[Invoice, Rest]] = []
    answers: list[Settlement] = []
    new = {payment_hash for payment_hash, job in jobs.items() if job["recorded"]}
    for invoice in invoices:
        job = jobs.get(invoice.payment_hash)
        if job is None or invoice.payment_hash not in new:
            answers.append(Settlement.UNKNOWN_INVOICE if job is None else Settlement.REPEATED)
            continue
        new.discard(invoice.payment_hash)
        decision = on_settlement(Purpose.WORK, states[job["id"]], job["amount_msat"], invoice.amount_paid_msat)
        if isinstance(decision, Begin):
            states[job["id"]] = JobState.EXECUTING
            begun.append(invoice)
            answers.append(Settlement.STARTED)
        else:
            owed.append((invoice, decision))
            answers.append(Settlement.OWED_BACK)
    return begun, owed, answers


async def _post(conn: Connection, jobs: Mapping[bytes, Any], settled: Sequence[Invoice]) -> None:
    if not settled:
        return
    holdings = [transfers.holding(jobs[invoice.payment_hash]["id"]) for invoice in settled]
    posted = [
        transfer
        for invoice, holding in zip(settled, holdings, strict=True)
        for transfer in transfers.settlement(invoice.payment_hash.hex(), holding, invoice.amount_paid_msat)
    ]
    await book.post(conn, posted, opening=holdings)
