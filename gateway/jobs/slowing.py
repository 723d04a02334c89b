"""Nobody buys compute with refunds: an identity or address whose work keeps failing at the worker has to wait."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from gateway import problems
from gateway.problems import Problem
from ledger import sql
from ledger.database import Connection
from ledger.grants import address_subject

_q = sql.load("gateway.jobs", "slowing.sql")

FREE_FAILURES = 5
FIRST_PAUSE_S = 30
LONGEST_PAUSE_S = 3600


def pause_s(failures: int, since_last_s: float) -> int:
    """Seconds still to wait; 0 below five failures, then 30 s, doubling up to an hour. Pure."""
    if failures < FREE_FAILURES:
        return 0
    pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures - FREE_FAILURES, 10))
    return int(max(0, math.ceil(pause - since_last_s)))


async def pauses(conn: Connection, subjects: Sequence[str]) -> dict[str, int]:
    """Seconds that each of these addresses and keys has to wait; those that need not are absent."""
    rows = await conn.fetch(_q.failures, list(subjects))
    return waits((row["subject"], row["failures"], row["since_s"]) for row in rows)


def waits(failures: Iterable[tuple[str, int, float]]) -> dict[str, int]:
    """Of `(subject, failures, seconds since the last)`: as `pauses`. Pure."""
    pauses_s = {subject: pause_s(count, since_s) for subject, count, since_s in failures}
    return {subject: wait_s for subject, wait_s in pauses_s.items() if wait_s > 0}


def slowed(wait_s: int) -> Problem:
    """Pure."""
    detail = f"The work you bought failed several times in a row. Try again in {wait_s} s; nothing was charged."
    return Problem(problems.SLOWED, detail, headers={"Retry-After": str(wait_s)})


async def count_failure(conn: Connection, job: Any) -> None:
    """The worker failed on what this buyer gave it."""
    await conn.execute(_q.count_failure, *_subjects(job))


async def count_success(conn: Connection, job: Any) -> None:
    """Work that is done halves what was counted."""
    if await conn.fetch(_q.lock_failures, *_subjects(job)):
        await conn.execute(_q.count_success, *_subjects(job))


def _subjects(job: Any) -> tuple[list[str], list[str]]:
    kinds, subjects = ["address"], [address_subject(job["client_address"])]
    if job["pubkey"] is not None:
        kinds.append("identity")
        subjects.append(job["pubkey"])
    return kinds, subjects
