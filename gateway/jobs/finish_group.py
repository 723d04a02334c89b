"""Works that are done, of jobs that their buyers paid alone: a group of them is one statement.

What the pool has a part in, or counts for an identity, and what is found otherwise than it was when its run began, is
ended one by one (`finish`), in the order of its own locks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway.ids import new_id
from gateway.jobs.decisions import Completion, on_work_done
from gateway.jobs.finish import Run, moved_by, rest_cause
from ledger import sql, transfers
from ledger.database import Connection, to_jsonb

_q = sql.load("gateway.jobs", "groups.sql")


@dataclass(frozen=True, slots=True)
class DoneWork:
    """What one run came to, as it waits for its group. `metered_sats` is not capped."""

    run: Run
    result: Any
    metered_sats: int
    share_of_revenue: Decimal


async def complete_group(conn: Connection, works: Sequence[DoneWork]) -> list[bool]:
    """The works succeeded; in one statement, which is a transaction by itself. False: left out, nothing was written.

    Locks: jobs by id, then holdings, the pool last.
    """
    if not all(work.run.goes_with_others for work in works):
        raise ValueError("the pool or an identity has a part in one of these")
    of_jobs = {work.run.job_id: work for work in reversed(works)}
    ended = {row["id"] for row in await conn.fetch(_q.complete_works, *_columns(list(of_jobs.values())))}
    return [of_jobs[work.run.job_id] is work and work.run.job_id in ended for work in works]


def _columns(works: Sequence[DoneWork]) -> tuple[Any, ...]:
    """As `complete_works` takes them. Pure but for the ids of refunds."""
    ends = [_end(work) for work in works]
    moved = [
        (work.run.job_id, transfer)
        for work, end in zip(works, ends, strict=True)
        for transfer in moved_by(work.run.job_id, end, work.share_of_revenue)
    ]
    return (
        [work.run.job_id for work in works],
        [work.run.attempt for work in works],
        [work.run.held_msat for work in works],
        [transfers.holding(work.run.job_id) for work in works],
        [work.run.subject for work in works],
        [to_jsonb(work.result) for work in works],
        [end.actual_cost_sats for end in ends],
        [end.user_charge_sats for end in ends],
        [new_id() for _ in works],
        [rest_cause(work.run.job_id) for work in works],
        [end.refund_sats for end in ends],
        [job_id for job_id, _ in moved],
        *transfers.columns([transfer for _, transfer in moved]),
    )


def _end(work: DoneWork) -> Completion:
    run = work.run
    return on_work_done(
        estimate_sats=run.estimate_sats, reserved_sats=0, paid_msat=run.held_msat, metered_sats=work.metered_sats
    )
