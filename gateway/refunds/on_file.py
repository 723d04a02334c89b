"""Refunds whose destination was given in advance are claimed as soon as they are owed.

An address stays on file for later debts of the job; an invoice is used up by the first claim.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from gateway import problems
from gateway.problems import Problem, ProblemType
from gateway.refunds.claim import claim, jobs_with_destination, owed_on, reject_on_file
from gateway.refunds.destination import DestinationRules, refuse_used, resolve_destination
from gateway.refunds.fees import FeeLimit
from ledger.database import Pool
from lightning.node import Node
from lightning.types import NodeUnavailable

log = logging.getLogger(__name__)

POLL_S = 1.0
AT_ONCE = 8
MAX_BACKOFF_S = 600.0


class Meaning(StrEnum):
    """Of a refusal, for the destination on file."""

    LOOK_AGAIN = "look again"
    """Another claim was quicker, or what is owed changed: no fault of the destination."""
    ASK_LATER = "ask later"
    REJECTED = "rejected"
    """It can not be used: its owner is told why, and gives another."""


_LOOK_AGAIN = frozenset({problems.REFUND_BELOW_MINIMUM, problems.REFUND_IN_PROGRESS, problems.NOTHING_TO_REFUND})


def what_it_means(problem: ProblemType) -> Meaning:
    """Pure."""
    if problem in _LOOK_AGAIN:
        return Meaning.LOOK_AGAIN
    return Meaning.ASK_LATER if problem is problems.DESTINATION_UNREACHABLE else Meaning.REJECTED


@dataclass(slots=True)
class OnFile:
    pool: Pool
    node: Node
    fee_limit: FeeLimit
    rules: DestinationRules
    min_sats: int
    """Less than this waits."""
    wake: asyncio.Event
    _silent: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Of jobs whose address does not answer: asked again at this time of the loop's clock; the last delay."""

    async def run(self) -> None:
        """Until cancelled."""
        slots = asyncio.Semaphore(AT_ONCE)
        while True:
            due = await jobs_with_destination(self.pool, self.min_sats)
            now = asyncio.get_running_loop().time()
            self._silent = {job_id: self._silent[job_id] for job_id, _ in due if job_id in self._silent}
            ready = [item for item in due if self._silent.get(item[0], (0.0, 0.0))[0] <= now]
            await asyncio.gather(*(self._claim(slots, job_id, text) for job_id, text in ready))
            try:
                async with asyncio.timeout(POLL_S):
                    await self.wake.wait()
            except TimeoutError:
                continue
            self.wake.clear()

    async def _claim(self, slots: asyncio.Semaphore, job_id: str, text: str) -> None:
        async with slots:
            try:
                owed = await owed_on(self.pool, job_id)
                destination = await resolve_destination(self.node, text, owed, datetime.now(UTC), self.rules)
                if destination is None:
                    return
                await refuse_used(self.node, destination.request)
                await claim(self.pool, job_id, destination, self.fee_limit, self.min_sats, from_file=True)
            except NodeUnavailable as error:
                log.debug("a destination on file waits for the node: %s", error, extra={"job_id": job_id})
            except Problem as problem:
                await self._refused(job_id, text, problem)

    async def _refused(self, job_id: str, text: str, problem: Problem) -> None:
        match what_it_means(problem.type):
            case Meaning.LOOK_AGAIN:
                log.debug("a destination on file is looked at again: %s", problem.detail, extra={"job_id": job_id})
            case Meaning.ASK_LATER:
                self._ask_later(job_id)
            case Meaning.REJECTED:
                await reject_on_file(self.pool, job_id, text, f"{problem.type.title}. {problem.detail}")

    def _ask_later(self, job_id: str) -> None:
        _, delay_s = self._silent.get(job_id, (0.0, POLL_S))
        delay_s = min(MAX_BACKOFF_S, delay_s * 2)
        self._silent[job_id] = asyncio.get_running_loop().time() + delay_s, delay_s
