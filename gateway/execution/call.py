"""One call of a worker: bounded in time, and whatever falls in it is a failure of the work, never of the gateway."""

from __future__ import annotations

import asyncio
import logging

from gateway.work.worker import NO_LONGER_OFFERED, Done, Worker, WorkFailed, WorkOrder

log = logging.getLogger(__name__)


async def call_worker(worker: Worker | None, order: WorkOrder, timeout_s: float) -> Done | WorkFailed:
    """`worker` None: the work is no longer in the catalogue."""
    if worker is None:
        return NO_LONGER_OFFERED
    try:
        async with asyncio.timeout(timeout_s):
            return await worker.run(order)
    except TimeoutError:
        return WorkFailed(f"The work took longer than {timeout_s:.0f} seconds.")
    except Exception:
        log.exception("worker fell", extra={"job_id": order.job_id, "work": order.work.name})
        return WorkFailed("The worker met a fault of its own.")
