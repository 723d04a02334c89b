"""Work that takes its time, to its reader: since when it runs, and what happens if it takes too long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gateway.pages.language import gettext as _
from gateway.pages.language import ngettext, number
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
    return _(
        "If one try takes longer than %(span)s, it is ended: the work has failed, and costs nothing.",
        span=span(work_timeout_s),
    )


def span(length_s: int) -> str:
    """`90 seconds`, `10 minutes`, `2 hours`: in the largest unit that says it exactly."""
    if length_s % 3600 == 0:
        return ngettext("%(hours)s hour", "%(hours)s hours", length_s // 3600, hours=number(length_s // 3600))
    if length_s % 60 == 0:
        return ngettext("%(minutes)s minute", "%(minutes)s minutes", length_s // 60, minutes=number(length_s // 60))
    return ngettext("%(seconds)s second", "%(seconds)s seconds", length_s, seconds=number(length_s))
