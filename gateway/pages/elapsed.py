"""Work that takes its time, to its reader: since when it runs, and what happens if it takes too long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ledger import sql
from ledger.database import Pool

_q = sql.load("gateway.pages", "elapsed.sql")


@dataclass(frozen=True, slots=True)
class Running:
    """The script counts up from `since`; without it the moment itself stands there."""

    since: datetime
    too_long: str


async def running_job(pool: Pool, job_id: str, work_timeout_s: int) -> Running:
    """Of a job that exists."""
    return Running(await pool.fetchval(_q.work_began, job_id), too_long(work_timeout_s))


def too_long(work_timeout_s: int) -> str:
    """What happens then, in plain words."""
    return f"If one try takes longer than {span(work_timeout_s)}, it is ended: the work has failed, and costs nothing."


def span(length_s: int) -> str:
    """`90 seconds`, `10 minutes`, `2 hours`: in the largest unit that says it exactly."""
    for unit, unit_s in (("hour", 3600), ("minute", 60)):
        if length_s % unit_s == 0:
            count = length_s // unit_s
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{length_s} second{'' if length_s == 1 else 's'}"
