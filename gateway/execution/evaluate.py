"""One task of an evaluation: number the run, ask the evaluator, record its answer, open the work's invoice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from gateway.catalogue import Catalogue
from gateway.execution.call import bounded
from gateway.execution.patience import MAX_LOST_RUNS, recorded, within_grace
from gateway.execution.queue import HandBack
from gateway.jobs import evaluate
from gateway.jobs.create import InvoiceLimits, PlannedInvoice
from gateway.jobs.evaluate import Answered, Evaluation, Terms
from gateway.metrics import Metrics
from gateway.work.evaluator import Accepted, Evaluator, Look, Rejected
from gateway.work.worker import NO_LONGER_OFFERED, WorkFailed
from ledger.database import DATABASE_AWAY, Pool
from lightning.node import Node
from lightning.types import InvoiceConflict, NodeRefused, NodeUnavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EvaluationExecutor:
    """Handles tasks of evaluations; stops as the executor of works does. `memo` makes an invoice's from a title."""

    pool: Pool
    node: Node
    catalogue: Catalogue
    evaluator: Evaluator
    metrics: Metrics
    stopping: asyncio.Event
    limits: InvoiceLimits
    memo: Callable[[str], str]
    timeout_s: float
    grace_s: float = 6.0

    async def handle(self, job_id: str) -> None:
        """Evaluate the job to an end. Raises HandBack when the process stops first."""
        run = await evaluate.begin(self.pool, job_id)
        if run is None:
            return
        log.info("evaluation starts", extra={"job_id": job_id, "work": run.work, "run": run.attempt})
        verdict = await self._verdict(run)
        answered = await recorded(lambda: self._record(run, verdict), self.stopping)
        end = type(verdict).__name__.lower() if answered.counted else "late"
        self.metrics.works.labels(run.work, f"evaluation_{end}").inc()
        log.info("evaluation ended: %s", end, extra={"job_id": job_id, "run": run.attempt})
        if answered.planned is not None:
            await self._open(run, answered.planned)

    async def _verdict(self, run: Evaluation) -> Accepted | Rejected | WorkFailed:
        if run.lost_runs >= MAX_LOST_RUNS:
            return WorkFailed(f"The evaluation was lost {run.lost_runs} times; it was given up.", by_worker=False)
        try:
            return await within_grace(self._ask(run), self.stopping, self.grace_s)
        except HandBack:
            await evaluate.hand_back(self.pool, run)
            raise

    async def _ask(self, run: Evaluation) -> Accepted | Rejected | WorkFailed:
        entry = self.catalogue.find(run.work)
        if entry is None:
            return NO_LONGER_OFFERED
        look = Look(run.job_id, entry, run.input, run.cap_sats, run.attempt)
        asked = self.evaluator.look
        return await bounded(lambda: asked(look), self.timeout_s, run.job_id, what="evaluation", who="evaluator")

    async def _record(self, run: Evaluation, verdict: Accepted | Rejected | WorkFailed) -> Answered:
        share = self.catalogue.pool.share_of_revenue
        match verdict:
            case Accepted(estimate_sats):
                entry = self.catalogue.find(run.work)
                memo = self.memo(entry.title if entry else run.work)
                terms = Terms(self.catalogue.gate_rules, share, self.limits, memo)
                return await evaluate.accept(self.pool, run, estimate_sats, terms)
            case Rejected(reason):
                return await evaluate.reject(self.pool, run, reason, share)
            case WorkFailed(reason, by_worker):
                return await evaluate.fail(self.pool, run, reason, by_worker=by_worker)

    async def _open(self, run: Evaluation, planned: PlannedInvoice) -> None:
        try:
            await evaluate.open_work_invoice(self.pool, self.node, planned)
        except (NodeUnavailable, NodeRefused, InvoiceConflict, *DATABASE_AWAY) as error:
            log.warning("the invoice waits for the sweep: %s", error, extra={"job_id": run.job_id})
