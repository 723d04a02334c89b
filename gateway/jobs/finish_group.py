"""Works that are done, of jobs that their buyers paid alone: a group of them is one transaction.

What the pool has a part in, or counts for an identity, is ended one by one (`finish`), in the order of its own locks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import Any

from gateway.ids import new_id
from gateway.jobs import slowing
from gateway.jobs.decisions import Completion, JobState, on_work_done
from gateway.jobs.finish import Run, moved_by, rest_cause
from ledger import book, sql, transfers
from ledger.database import Connection, to_jsonb

_q = sql.load("gateway.jobs")


@dataclass(frozen=True, slots=True)
class DoneWork:
    """What one run came to, as it waits for its group. `metered_sats` is not capped."""

    run: Run
    result: Any
    metered_sats: int
    share_of_revenue: Decimal


async def complete_group(conn: Connection, works: Sequence[DoneWork]) -> list[bool]:
    """The works succeeded; in the caller's transaction. False: that result came late and was discarded.

    Locks: jobs by id, then failures, then holdings, the pool last.
    """
    if not all(work.run.goes_with_others for work in works):
        raise ValueError("the pool or an identity has a part in one of these")
    job_ids = [work.run.job_id for work in works]
    jobs = {row["id"]: row for row in await conn.fetch(_q.lock_jobs, job_ids)}
    current = _current(jobs, works)
    if current:
        await _complete(conn, jobs, list(current.values()))
    return [current.get(work.run.job_id) is work for work in works]


def _current(jobs: Mapping[str, Any], works: Sequence[DoneWork]) -> dict[str, DoneWork]:
    """By job: the result that counts, which is the first of the job's current run. Pure."""
    current: dict[str, DoneWork] = {}
    for work in works:
        job = jobs.get(work.run.job_id)
        if job is not None and job["state"] == JobState.EXECUTING and job["attempt"] == work.run.attempt:
            current.setdefault(work.run.job_id, work)
    return current


async def _complete(conn: Connection, jobs: Mapping[str, Any], works: Sequence[DoneWork]) -> None:
    held_msat = await book.kept_balances(conn, [transfers.holding(work.run.job_id) for work in works])
    ends = [_end(work, held_msat.get(transfers.holding(work.run.job_id), 0)) for work in works]
    await slowing.count_successes(conn, [jobs[work.run.job_id] for work in works])
    moved = [moved_by(w.run.job_id, end, w.share_of_revenue) for w, end in zip(works, ends, strict=True)]
    await book.post(conn, list(chain.from_iterable(moved)))
    ended = await conn.fetchval(
        _q.complete_jobs,
        [work.run.job_id for work in works],
        [work.run.attempt for work in works],
        [to_jsonb(work.result) for work in works],
        [end.actual_cost_sats for end in ends],
        [end.user_charge_sats for end in ends],
        [new_id() for _ in works],
        [rest_cause(work.run.job_id) for work in works],
        [end.refund_sats for end in ends],
    )
    if ended != len(works):
        raise RuntimeError("a job that was locked while it ran has ended meanwhile")


def _end(work: DoneWork, held_msat: int) -> Completion:
    run = work.run
    return on_work_done(
        estimate_sats=run.estimate_sats, reserved_sats=0, paid_msat=held_msat, metered_sats=work.metered_sats
    )
