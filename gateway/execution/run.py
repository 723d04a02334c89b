"""One task: number the run, call the worker under its cap, record the end. The job ends once, come what may."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.catalogue import Catalogue
from gateway.execution.queue import HandBack
from gateway.jobs import finish
from gateway.jobs.finish import Run
from gateway.metrics import Metrics
from gateway.work.worker import Done, Worker, WorkFailed, WorkOrder
from ledger.database import DATABASE_AWAY, Pool

log = logging.getLogger(__name__)

MAX_LOST_RUNS = 3


@dataclass(frozen=True, slots=True)
class Executor:
    """Handles tasks of the queue. `stopping` set: runs get `grace_s` to finish and are handed back after it."""

    pool: Pool
    catalogue: Catalogue
    workers: Mapping[str, Worker]
    metrics: Metrics
    stopping: asyncio.Event
    timeout_s: float
    grace_s: float = 6.0

    async def handle(self, job_id: str) -> None:
        """Run the job's work to its end. Raises HandBack when the process stops first."""
        run = await finish.begin_run(self.pool, job_id)
        if run is None:
            return
        if run.lost_runs >= MAX_LOST_RUNS:
            await finish.fail(
                self.pool, run, f"The work was lost {run.lost_runs} times; it was given up.", by_worker=False
            )
            return
        log.info("work starts", extra={"job_id": job_id, "work": run.work, "run": run.attempt})
        outcome = await self._outcome(run)
        await self._record(run, outcome)

    async def _outcome(self, run: Run) -> Done | WorkFailed:
        work = asyncio.create_task(self._run_worker(run))
        stop = asyncio.create_task(self._grace_is_over())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
        finally:
            for task in (work, stop):
                task.cancel()
            await asyncio.wait({work, stop})
        await finish.hand_back(self.pool, run)
        log.info("work handed back", extra={"job_id": run.job_id, "run": run.attempt})
        raise HandBack

    async def _grace_is_over(self) -> None:
        await self.stopping.wait()
        await asyncio.sleep(self.grace_s)

    async def _run_worker(self, run: Run) -> Done | WorkFailed:
        entry = self.catalogue.find(run.work)
        worker = self.workers.get(run.work)
        if entry is None or worker is None:
            return WorkFailed("This work is no longer offered.")
        order = WorkOrder(run.job_id, entry, run.input, run.estimate_sats, run.attempt)
        try:
            async with asyncio.timeout(self.timeout_s):
                return await worker.run(order)
        except TimeoutError:
            return WorkFailed(f"The work took longer than {self.timeout_s:.0f} seconds.")
        except Exception:
            log.exception("worker fell", extra={"job_id": run.job_id, "work": run.work})
            return WorkFailed("The worker met a fault of its own.")

    async def _record(self, run: Run, outcome: Done | WorkFailed) -> None:
        """The result is in hand: a database that is away is waited for; a restart runs the work again."""
        delay_s = 0.1
        while True:
            try:
                if isinstance(outcome, Done):
                    counted = await finish.complete(
                        self.pool, run, outcome.result, outcome.cost_sats, self.catalogue.pool.share_of_revenue
                    )
                    end = "complete"
                else:
                    counted = await finish.fail(self.pool, run, outcome.reason)
                    end = "failed"
            except DATABASE_AWAY:
                if self.stopping.is_set():
                    raise HandBack from None
                log.warning("the database is away, a result waits", extra={"job_id": run.job_id})
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 5.0)
                continue
            self.metrics.works.labels(run.work, end if counted else "late").inc()
            log.info("work %s", end if counted else "came late", extra={"job_id": run.job_id, "run": run.attempt})
            return
