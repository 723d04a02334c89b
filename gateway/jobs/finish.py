"""The work ended: one guarded transaction moves the state, posts the charge and owes the rest back.

Every run of the worker has a number. A result that carries another number than the job's is late: discarded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway.jobs import slowing
from gateway.jobs.decisions import Completion, JobState, on_work_done
from gateway.jobs.settle import held_msat, owe, owe_back
from ledger import book, grants, sql, transfers
from ledger.database import Connection, Pool, from_jsonb, to_jsonb
from ledger.free_tier import Serve
from ledger.grants import address_subject
from ledger.money import Rest, rest_of, sats_to_msat
from ledger.transfers import Transfer

_q = sql.load("gateway.jobs")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the worker for a job."""

    job_id: str
    work: str
    input: Any
    estimate_sats: int
    attempt: int
    lost_runs: int
    """Earlier runs that nobody ended: their process died."""
    held_msat: int = 0
    """What was held for the job when the run began."""
    subject: str = ""
    """The address that bought it, as failures are counted."""
    goes_with_others: bool = False
    """Its buyer pays alone and has no identity: it may end in a group (`finish_group`)."""


async def begin_run(pool: Pool, job_id: str) -> Run | None:
    """Number the next run. None: the job does not execute (any more), there is nothing to do."""
    async with pool.acquire() as conn:
        (run,) = await begin_runs(conn, [job_id])
    return run


async def begin_runs(conn: Connection, job_ids: Sequence[str]) -> list[Run | None]:
    """As `begin_run`, for a group, in one statement. A job that is named twice has one run: the first has it."""
    wanted = list(set(job_ids))
    rows = await conn.fetch(_q.next_runs, wanted, [transfers.holding(job_id) for job_id in wanted])
    runs = {row["id"]: _run(row) for row in rows}
    return [runs.pop(job_id, None) for job_id in job_ids]


def _run(row: Any) -> Run:
    lost = row["attempt"] - 1 - row["handed_back"]
    alone = row["serve"] == Serve.GATE and row["pubkey"] is None
    return Run(
        row["id"],
        row["work"],
        from_jsonb(row["input"]),
        row["estimate_sats"],
        row["attempt"],
        lost,
        row["held_msat"],
        address_subject(row["client_address"]),
        alone,
    )


async def hand_back(pool: Pool, run: Run) -> None:
    """This process stops: the run is given back unharmed and does not count as lost."""
    await pool.execute(_q.hand_back, run.job_id, run.attempt)


async def complete(pool: Pool, run: Run, result: Any, metered_sats: int, share_of_revenue: Decimal) -> bool:
    """The work succeeded at `metered_sats` (uncapped). False: the result came late and was discarded."""
    async with pool.acquire() as conn, conn.transaction():
        job = await _lock_running(conn, run)
        if job is None:
            return False
        reserved_sats = job["absorb_sats"] if job["serve"] != Serve.GATE else 0
        done = on_work_done(
            estimate_sats=run.estimate_sats,
            reserved_sats=reserved_sats,
            paid_msat=await held_msat(conn, run.job_id),
            metered_sats=metered_sats,
        )
        await slowing.count_success(conn, job)
        await _record_grant(conn, job, reserved_sats, done)
        await book.post(conn, moved_by(run.job_id, done, share_of_revenue))
        await conn.execute(
            _q.complete_job,
            run.job_id,
            run.attempt,
            to_jsonb(result),
            done.actual_cost_sats,
            done.absorbed_sats,
            done.user_charge_sats,
        )
        await owe(conn, run.job_id, rest_cause(run.job_id), done.refund_sats)
        return True


def moved_by(job_id: str, done: Completion, share_of_revenue: Decimal) -> list[Transfer]:
    """What a work that is done moves in the book: the charge, an overrun, and the rest, which is owed back. Pure."""
    charge_msat = sats_to_msat(done.user_charge_sats)
    rest = Rest(done.refund_sats, done.sub_sat_msat)
    return [
        *transfers.charge(job_id, charge_msat, int(charge_msat * share_of_revenue)),
        *transfers.overrun(job_id, sats_to_msat(done.overrun_sats)),
        *transfers.owed_back(rest_cause(job_id), transfers.holding(job_id), rest),
    ]


def rest_cause(job_id: str) -> str:
    """Of the debt that is a job's rest. Pure."""
    return f"rest:{job_id}"


async def fail(pool: Pool, run: Run, reason: str, *, by_worker: bool = True) -> bool:
    """The work failed: everything paid for it is owed back, the reservation is released. False: late, discarded.

    `by_worker`: the worker said so, which is counted against its buyer; runs lost by us are not.
    """
    async with pool.acquire() as conn, conn.transaction():
        job = await _lock_running(conn, run)
        if job is None:
            return False
        if by_worker:
            await slowing.count_failure(conn, job)
        if job["serve"] != Serve.GATE:
            await grants.release_reservation(conn, f"job:{run.job_id}")
        await owe_back(conn, run.job_id, f"failed:{run.job_id}", rest_of(await held_msat(conn, run.job_id)))
        await conn.execute(_q.fail_job, run.job_id, run.attempt, reason)
        return True


async def _record_grant(conn: Connection, job: Any, reserved_sats: int, done: Completion) -> None:
    """Identity first, then days and accounts: the order in which everybody locks."""
    if job["pubkey"] is not None and done.user_charge_sats:
        await grants.recognise_charge(conn, job["pubkey"], done.user_charge_sats)
    if reserved_sats:
        request_hash = bytes(job["request_hash"])
        owner = f"job:{job['id']}"
        await grants.record_grant(conn, job["pubkey"], request_hash, done.absorbed_sats, reserved_sats, owner)


async def _lock_running(conn: Connection, run: Run) -> Any | None:
    """Lock the job; None when this run is not its current one."""
    job = await conn.fetchrow(_q.lock_job, run.job_id)
    if job is None or job["state"] != JobState.EXECUTING or job["attempt"] != run.attempt:
        return None
    return job
