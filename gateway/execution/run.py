"""One task: number the run, call the worker under its cap, record the end. The job ends once, come what may."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.catalogue import Catalogue
from gateway.execution.call import call_worker
from gateway.execution.patience import MAX_LOST_RUNS, recorded, within_grace
from gateway.execution.queue import HandBack
from gateway.jobs import finish
from gateway.jobs.finish import Run
from gateway.jobs.finish_group import DoneWork
from gateway.metrics import Metrics
from gateway.work.worker import NO_LONGER_OFFERED, Done, Worker, WorkFailed, WorkOrder
from ledger.database import Pool
from ledger.groups import Groups

log = logging.getLogger(__name__)


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
    beginnings: Groups[str, Run | None] | None = None
    completions: Groups[DoneWork, bool] | None = None
    """Where runs begin, and where works end whose buyers pay alone; None: one by one."""

    async def handle(self, job_id: str) -> None:
        """Run the job's work to its end. Raises HandBack when the process stops first."""
        run = await self.beginnings.submit(job_id) if self.beginnings else await finish.begin_run(self.pool, job_id)
        if run is None:
            return
        log.info("work starts", extra={"job_id": job_id, "work": run.work, "run": run.attempt})
        outcome = await self._outcome(run)
        try:
            counted = await recorded(lambda: self._record(run, outcome), self.stopping)
        except HandBack:
            raise
        except Exception:  # it would fall again after each run
            log.exception("a result can not be recorded", extra={"job_id": job_id})
            outcome = WorkFailed("The result could not be kept.", by_worker=False)
            counted = await recorded(lambda: self._record(run, outcome), self.stopping)
        end = ("complete" if isinstance(outcome, Done) else "failed") if counted else "late"
        self.metrics.works.labels(run.work, end).inc()
        log.info("work ended: %s", end, extra={"job_id": job_id, "run": run.attempt})

    async def _outcome(self, run: Run) -> Done | WorkFailed:
        if run.lost_runs >= MAX_LOST_RUNS:
            return WorkFailed(f"The work was lost {run.lost_runs} times; it was given up.", by_worker=False)
        try:
            return await within_grace(self._run_worker(run), self.stopping, self.grace_s)
        except HandBack:
            await finish.hand_back(self.pool, run)
            log.info("work handed back", extra={"job_id": run.job_id, "run": run.attempt})
            raise

    async def _run_worker(self, run: Run) -> Done | WorkFailed:
        entry = self.catalogue.find(run.work)
        if entry is None:
            return NO_LONGER_OFFERED
        order = WorkOrder(run.job_id, entry, run.input, run.estimate_sats, run.attempt)
        return await call_worker(self.workers.get(run.work), order, self.timeout_s)

    async def _record(self, run: Run, outcome: Done | WorkFailed) -> bool:
        """False: the outcome came late and was discarded."""
        if isinstance(outcome, Done):
            share = self.catalogue.pool.share_of_revenue
            with_others = self.completions if run.goes_with_others else None
            if with_others and await with_others.submit(DoneWork(run, outcome.result, outcome.cost_sats, share)):
                return True
            return await finish.complete(self.pool, run, outcome.result, outcome.cost_sats, share)
        return await finish.fail(self.pool, run, outcome.reason, by_worker=outcome.by_worker)
