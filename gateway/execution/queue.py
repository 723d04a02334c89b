"""PgQueuer in our database: tasks are enqueued in the caller's transaction and never vanish unnoticed.

PgQueuer 1.6 deletes a task whose handler raises; ours are held (`on_failure="hold"`), and the sweep for
executing jobs without a live task enqueues such a job again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Job as Task
from pgqueuer.domain.models import TracebackRecord
from pgqueuer.domain.types import JOB_STATUS, JobId, QueueManagerId

from gateway.execution.driver import PatientDriver
from gateway.jobs.decisions import Stage
from ledger import sql
from ledger.database import Connection, Pool

_q = sql.load("gateway.execution")
log = logging.getLogger(__name__)

ENTRYPOINT = "work"


class HandBack(Exception):
    """The process stops: the task goes back into the queue unharmed."""


async def install_queue(conn: Connection) -> None:
    """The queue's own schema, brought up to this release of PgQueuer; part of `migrate`, under its lock."""
    queries = Queries(AsyncpgDriver(_raw(conn)))
    if await queries.schema_is_installed():
        await queries.upgrade()
    else:
        await queries.install()


async def enqueue(conn: Connection, job_id: str, stage: Stage = Stage.WORK) -> None:
    """One live task per job and stage, in the caller's transaction."""
    task = f"{stage.value}:{job_id}"
    await Queries(AsyncpgDriver(_raw(conn))).enqueue(
        [ENTRYPOINT], [task.encode()], [0], dedupe_key=[task], on_conflict="skip"
    )


def read_task(payload: str) -> tuple[Stage, str]:
    """`(stage, job id)`; a bare job id is a task of an earlier release: work."""
    stage, _, job_id = payload.rpartition(":")
    return Stage(stage or Stage.WORK), job_id


async def run_queue(
    pool: Pool,
    handlers: Mapping[Stage, Callable[[str], Awaitable[None]]],
    *,
    concurrent: int,
    heartbeat_timeout_s: float,
    stopping: asyncio.Event,
) -> None:
    """Take tasks until `stopping` is set; then wait for those that run (the handler hands back in time).

    Tasks of a dead process are taken up again after `heartbeat_timeout_s`. Raises RuntimeError if it ends otherwise.
    """
    driver = PatientDriver(pool)
    manager = QueueManager(OwnRows(driver, heartbeat_timeout_s))

    @manager.entrypoint(ENTRYPOINT, on_failure="hold", accepts_context=False)
    async def work(task: Task) -> None:
        try:
            stage, job_id = read_task((task.payload or b"").decode())
            await handlers[stage](job_id)
        except HandBack:
            raise RetryRequested(timedelta(0), "the process is stopping") from None

    async def stop() -> None:
        await stopping.wait()
        manager.shutdown.set()

    stopper = asyncio.create_task(stop())
    try:
        await manager.run(
            dequeue_timeout=timedelta(seconds=min(5.0, heartbeat_timeout_s / 2)),
            batch_size=10,
            max_concurrent_tasks=concurrent,
            heartbeat_timeout=timedelta(seconds=heartbeat_timeout_s),
        )
    finally:
        stopper.cancel()
        await driver.close()
    if not stopping.is_set():
        raise RuntimeError("the queue's loop ended though nobody stopped it")


class FewerAsks(Queries):
    """The library's statements, but for answers that are known: two are left of five each time that it looks.

    A batch that was not full was all there was, and whether there is something new is asked right after it. No task of
    ours is deferred (one that is handed back may be taken at once), so none falls due later.
    """

    _emptied = False

    async def dequeue(self, batch_size: int, *args: Any, **more: Any) -> list[Task]:
        if self._emptied:
            self._emptied = False
            return []
        tasks = await super().dequeue(batch_size, *args, **more)
        self._emptied = 0 < len(tasks) < batch_size
        return tasks

    async def next_deferred_eta(self, entrypoints: list[Any]) -> timedelta | None:
        return None

    async def queued_work(self, entrypoints: list[Any]) -> int:
        """Asked after `eligible_queued_work` said that there is nothing to take."""
        return 0


class OwnRows(FewerAsks):
    """Writes only rows that its queue manager still holds; the library's statements go by a row's id alone.

    A run whose heartbeats were late may end after another process took its row over: that row is the other's.
    Heartbeats have a connection of their own, so that a busy pool does not make them late.
    """

    def __init__(self, driver: PatientDriver, heartbeat_timeout_s: float) -> None:
        super().__init__(driver)
        self._patient = driver
        self._beat_timeout_s = heartbeat_timeout_s / 4
        self._holder: UUID | None = None

    async def dequeue(
        self, batch_size: int, entrypoints: Any, queue_manager_id: QueueManagerId, *args: Any, **more: Any
    ) -> list[Task]:
        self._holder = queue_manager_id
        return await super().dequeue(batch_size, entrypoints, queue_manager_id, *args, **more)

    async def log_jobs(self, job_status: list[tuple[Task, JOB_STATUS, TracebackRecord | None]]) -> None:
        await self.driver.execute(
            _q.record_ends,
            [task.id for task, _, _ in job_status],
            [status for _, status, _ in job_status],
            [_json(traceback) for _, _, traceback in job_status],
            [task.queue_manager_id for task, _, _ in job_status],
        )

    async def retry_job(self, job: Task, delay: timedelta, traceback_record: TracebackRecord | None) -> None:
        await self.driver.execute(_q.retry_task, job.id, delay, _json(traceback_record), job.queue_manager_id)

    async def update_heartbeat(self, job_ids: list[JobId]) -> None:
        """Raises TimeoutError after a quarter of the lease: the library sends them again, on a new connection."""
        async with asyncio.timeout(self._beat_timeout_s):
            await self._patient.execute_apart(_q.send_heartbeats, list(set(job_ids)), self._holder)


def _json(record: TracebackRecord | None) -> str | None:
    return record.model_dump_json() if record else None


def _raw(conn: Connection) -> Any:
    """PgQueuer's driver is typed for a bare connection; a pool's proxy has the same methods."""
    return conn
