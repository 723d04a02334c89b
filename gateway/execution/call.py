"""One call of a worker or evaluator, bounded in time; whatever falls in it is its own failure, not the gateway's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.work.worker import NO_LONGER_OFFERED, Done, Worker, WorkFailed, WorkOrder

T = TypeVar("T")
log = logging.getLogger(__name__)

MAX_COST_SATS = 10_000_000_000
"""A hundred bitcoins. What is more is no cost (a time in its place); a few of those would overflow the book's sums."""


async def call_worker(worker: Worker | None, order: WorkOrder, timeout_s: float) -> Done | WorkFailed:
    """`worker` None: the work is no longer in the catalogue."""
    if worker is None:
        return NO_LONGER_OFFERED
    outcome = await bounded(lambda: worker.run(order), timeout_s, order.job_id, what="work", who="worker")
    if isinstance(outcome, Done) and outcome.cost_sats > MAX_COST_SATS:
        log.error("a worker names a cost that can not be: %s sats", outcome.cost_sats, extra={"job_id": order.job_id})
        return WorkFailed("The worker named a cost that can not be.")
    return outcome


async def bounded(
    ask: Callable[[], Awaitable[T]], timeout_s: float, job_id: str, *, what: str, who: str
) -> T | WorkFailed:
    """`what` and `who` are for the words that a payer reads."""
    try:
        async with asyncio.timeout(timeout_s):
            return await ask()
    except TimeoutError:
        return WorkFailed(f"The {what} took longer than {timeout_s:.0f} seconds.")
    except Exception:
        log.exception("%s fell", who, extra={"job_id": job_id})
        return WorkFailed(f"The {who} met a fault of its own.")
