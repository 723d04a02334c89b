"""When a delivery is tried again, what an answer means. Pure. Truth tables: tests/unit/test_webhook_decisions.py."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

BACKOFF_S = (5, 30, 120, 600, 3_600, 10_800, 21_600, 43_200)
"""Between the attempts, about a day in all; then it is given up until somebody asks for it."""
GONE = 410

EVENTS = (
    *("job.awaiting_eval_payment", "job.evaluating", "job.awaiting_work_payment", "job.executing"),
    *("job.complete", "job.failed", "job.rejected", "job.expired"),
    *("refund.pending", "refund.paying", "refund.paid", "refund.donated"),
)
_PATTERN = re.compile(r"\*|[a-z]+\.\*|[a-z]+\.[a-z_]+")


@dataclass(frozen=True, slots=True)
class Delivered:
    pass


@dataclass(frozen=True, slots=True)
class Again:
    in_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """`gone`: the address said that it wants nothing any more."""

    gone: bool = False


Step: TypeAlias = Delivered | Again | GiveUp


def after_attempt(status: int | None, attempts: int, jitter: float) -> Step:
    """`status` None: no answer came. `attempts` counts this one; `jitter` 0 to 1 spreads the retries by a fifth."""
    if status is not None and 200 <= status < 300:
        return Delivered()
    if status == GONE:
        return GiveUp(gone=True)
    if attempts > len(BACKOFF_S):
        return GiveUp()
    return Again(BACKOFF_S[attempts - 1] * (1 + jitter / 5))


def unknown_events(wanted: Sequence[str]) -> list[str]:
    """Those that would never be told: a name that no event has, a star that covers none."""
    return [one for one in wanted if not (_PATTERN.fullmatch(one) and any(_covers(one, event) for event in EVENTS))]


def _covers(wanted: str, event: str) -> bool:
    return event.startswith(wanted[:-1]) if wanted.endswith("*") else event == wanted
