"""The evaluation ended: one guarded transaction keeps the fee or owes it back, and asks the gate about the price.

Every run of the evaluator has a number. An answer that carries another number than the job's is late: discarded.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway.execution.queue import enqueue
from gateway.jobs import slowing
from gateway.jobs.create import InvoiceLimits, PlannedInvoice, open_at_node, plan_invoice, planned_again, store_invoices
from gateway.jobs.decisions import JobState, Purpose, on_evaluated
from gateway.jobs.settle import held_msat, owe, owe_back
from ledger import book, grants, sql, transfers
from ledger.database import Connection, Pool, from_jsonb
from ledger.free_tier import Decision, Rules, Serve, decide_without_identity
from ledger.grants import Ask
from ledger.money import Rest, rest_of, sats_to_msat
from lightning.node import Node

_jobs = sql.load("gateway.jobs")
_q = sql.load("gateway.jobs", "evaluation.sql")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One run of the evaluator for a job. `cap_sats`: the catalogue's estimate, which its answer may only lower."""

    job_id: str
    work: str
    input: Any
    cap_sats: int
    attempt: int
    lost_runs: int
    """Earlier runs that nobody ended: their process died."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an accepted job goes on under."""

    rules: Rules
    share_of_revenue: Decimal
    limits: InvoiceLimits
    memo: str


@dataclass(frozen=True, slots=True)
class Answered:
    """`counted` False: the answer came late and was discarded. `planned`: the work's invoice, to be opened at LND."""

    counted: bool
    planned: PlannedInvoice | None = None


LATE = Answered(counted=False)


async def begin(pool: Pool, job_id: str) -> Evaluation | None:
    """Number the next run. None: the job is not evaluated (any more), there is nothing to do."""
    row = await pool.fetchrow(_q.next_evaluation, job_id)
    if row is None:
        return None
    lost = row["attempt"] - 1 - row["handed_back"]
    return Evaluation(row["id"], row["work"], from_jsonb(row["input"]), row["cap_sats"], row["attempt"], lost)


async def hand_back(pool: Pool, run: Evaluation) -> None:
    """This process stops: the run is given back unharmed and does not count as lost."""
    await pool.execute(_q.hand_back_evaluation, run.job_id, run.attempt)


async def accept(pool: Pool, run: Evaluation, estimate_sats: int, terms: Terms) -> Answered:
    """The work is to be had at this price: the fee is kept, and the gate decides who pays the price."""
    if not 1 <= estimate_sats <= run.cap_sats:
        raise ValueError("an evaluated price is 1 sat to the catalogue's estimate")
    async with pool.acquire() as conn, conn.transaction():
        job = await _lock_evaluating(conn, run)
        if job is None:
            return LATE
        await _lock_subjects(conn, job)
        decision = await _decide(conn, job, estimate_sats, terms.rules)
        await _keep_fee(conn, job, run, "accepted", terms.share_of_revenue)
        await conn.execute(
            _q.price_evaluated,
            run.job_id,
            estimate_sats,
            decision.serve.value,
            decision.absorb_sats,
            decision.charge_sats,
        )
        if decision.serve is Serve.FREE:
            await enqueue(conn, run.job_id)
            return Answered(counted=True)
        planned = plan_invoice(decision.charge_sats, terms.memo, terms.limits.expiry_s)
        await store_invoices(conn, [(run.job_id, job["client_address"], planned, Purpose.WORK)])
        return Answered(True, planned)


async def reject(pool: Pool, run: Evaluation, reason: str, share_of_revenue: Decimal) -> Answered:
    """The evaluator looked and said no: it is paid for the look, nothing else is due. No failure of anybody's."""
    async with pool.acquire() as conn, conn.transaction():
        job = await _lock_evaluating(conn, run)
        if job is None:
            return LATE
        await _lock_subjects(conn, job)
        await _keep_fee(conn, job, run, "rejected", share_of_revenue)
        await conn.execute(_q.end_evaluating_job, run.job_id, JobState.REJECTED.value, reason)
        return Answered(counted=True)


async def fail(pool: Pool, run: Evaluation, reason: str, *, by_worker: bool = True) -> Answered:
    """The evaluator gave no answer: the fee is owed back, or the pool's again.

    `by_worker`: the evaluator said so, which is counted against its buyer; runs lost by us are not.
    """
    async with pool.acquire() as conn, conn.transaction():
        job = await _lock_evaluating(conn, run)
        if job is None:
            return LATE
        if by_worker:
            await slowing.count_failure(conn, job)
        if job["granted"]:
            await grants.release_reservation(conn, f"eval:{run.job_id}")
        await owe_back(conn, run.job_id, f"failed:{run.job_id}", rest_of(await held_msat(conn, run.job_id)))
        await _end(conn, run, "failed", 0, 0)
        await conn.execute(_q.end_evaluating_job, run.job_id, JobState.FAILED.value, reason)
        return Answered(counted=True)


async def unopened_invoice(pool: Pool, payment_hash: bytes, *, can_open: bool) -> PlannedInvoice | None:
    """What to open at LND for an accepted job whose planned invoice can not be paid; None: nothing (yet).

    A stored preimage is used only in the first half of its time, so that the payer has some. After that, once no
    AddInvoice of it can be under way or LND has cancelled it (`can_open` False), the job gets a new invoice: its fee
    is paid, and nobody was ever shown the old one.
    """
    async with pool.acquire() as conn, conn.transaction():
        if await conn.fetchval(_q.lock_job_of_planned, payment_hash) is None:
            return None
        row = await conn.fetchrow(_q.unopened_work_invoice, payment_hash)
        if row is None:
            return None
        if can_open:
            if 2 * row["expiry_s"] < row["lifetime_s"]:
                return None
            return planned_again(row)
        if await conn.fetchval(_jobs.cancel_invoice, payment_hash) is None:
            return None
        planned = plan_invoice(row["work_amount_sats"], row["memo"], row["lifetime_s"])
        await store_invoices(conn, [(row["id"], row["client_address"], planned, Purpose.WORK)])
        return planned


async def open_work_invoice(pool: Pool, node: Node, planned: PlannedInvoice) -> None:
    """At LND, and whoever watches the job hears of it. Raises NodeUnavailable, InvoiceConflict (a fault)."""
    job = await open_at_node(pool, node, planned)
    await pool.execute("select pg_notify('boltworks_job', $1)", job.id)


async def _lock_subjects(conn: Connection, job: Any) -> None:
    """Identity, and the day of the fee's grant, before anything else: the order in which everybody locks.

    A fee that the user really pays raises their tier, before the gate looks at it.
    """
    if job["granted"]:
        await grants.lock_before_end(conn, job["pubkey"], f"eval:{job['id']}")
    elif job["pubkey"] is not None and job["fee_sats"]:
        await grants.recognise_charge(conn, job["pubkey"], job["fee_sats"])


async def _decide(conn: Connection, job: Any, estimate_sats: int, rules: Rules) -> Decision:
    if job["pubkey"] is None:
        return decide_without_identity(estimate_sats)
    address, request_hash = job["client_address"], bytes(job["request_hash"])
    ask = Ask(f"job:{job['id']}", job["pubkey"], address, estimate_sats, request_hash)
    (decision,) = await grants.decide(conn, [ask], rules)
    return decision


async def _keep_fee(conn: Connection, job: Any, run: Evaluation, outcome: str, share_of_revenue: Decimal) -> None:
    fee = on_evaluated(fee_sats=job["fee_sats"], granted=job["granted"], paid_msat=await held_msat(conn, run.job_id))
    if fee.absorbed_sats:
        request_hash = bytes(job["request_hash"])
        owner = f"eval:{run.job_id}"
        await grants.record_grant(conn, job["pubkey"], request_hash, fee.absorbed_sats, fee.absorbed_sats, owner)
    charge_msat, cause = sats_to_msat(fee.charged_sats), f"fee_rest:{run.job_id}"
    await book.post(
        conn,
        [
            *transfers.evaluation_fee(run.job_id, charge_msat, int(charge_msat * share_of_revenue)),
            *transfers.owed_back(cause, transfers.holding(run.job_id), Rest(fee.refund_sats, fee.sub_sat_msat)),
        ],
    )
    await _end(conn, run, outcome, fee.charged_sats, fee.absorbed_sats)
    await owe(conn, run.job_id, cause, fee.refund_sats)


async def _end(conn: Connection, run: Evaluation, outcome: str, charged_sats: int, absorbed_sats: int) -> None:
    """Guarded; under its lock it can not be another run's any more."""
    if await conn.fetchval(_q.end_evaluation, run.job_id, run.attempt, outcome, charged_sats, absorbed_sats) is None:
        raise RuntimeError(f"the evaluation of {run.job_id} ended under its own lock")


async def _lock_evaluating(conn: Connection, run: Evaluation) -> Any | None:
    """Lock the job; None when this run is not its current one."""
    job = await conn.fetchrow(_q.lock_evaluating, run.job_id)
    if job is None or job["state"] != JobState.EVALUATING or job["attempt"] != run.attempt:
        return None
    return job
