"""Jobs that execute or are evaluated must have a live task. One that lost it is enqueued again.

A handler that raised, a deleted row: whatever the cause.
"""

from __future__ import annotations

import logging

from gateway.execution.queue import enqueue
from gateway.jobs.decisions import Stage
from gateway.metrics import Metrics
from ledger import sql
from ledger.database import Pool

_q = sql.load("gateway.execution")
log = logging.getLogger(__name__)


async def requeue_orphans(pool: Pool, metrics: Metrics) -> list[str]:
    """Answers the jobs that got a new task. The queue's unique key keeps a race from making two."""
    async with pool.acquire() as conn, conn.transaction():
        orphans = [(row["id"], Stage.WORK) for row in await conn.fetch(_q.orphans)]
        orphans += [(row["id"], Stage.EVALUATION) for row in await conn.fetch(_q.orphan_evaluations)]
        for job_id, stage in orphans:
            await enqueue(conn, job_id, stage)
            metrics.orphans.inc()
            log.warning("job had no task, enqueued again", extra={"job_id": job_id})
        return [job_id for job_id, _ in orphans]
