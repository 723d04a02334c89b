"""Refunds whose destination was given in advance are claimed as soon as they are owed."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.problems import Problem
from gateway.refunds.claim import FeeLimit, claim, jobs_with_destination, reject_on_file
from gateway.refunds.destination import DestinationRules, read_destination, refuse_used
from ledger.database import Pool
from lightning.node import Node
from lightning.types import NodeUnavailable

log = logging.getLogger(__name__)

POLL_S = 1.0
AT_ONCE = 8


@dataclass(slots=True)
class OnFile:
    pool: Pool
    node: Node
    fee_limit: FeeLimit
    rules: DestinationRules
    wake: asyncio.Event

    async def run(self) -> None:
        """Until cancelled."""
        slots = asyncio.Semaphore(AT_ONCE)
        while True:
            due = await jobs_with_destination(self.pool)
            await asyncio.gather(*(self._claim(slots, job_id, text) for job_id, text in due))
            try:
                async with asyncio.timeout(POLL_S):
                    await self.wake.wait()
            except TimeoutError:
                continue
            self.wake.clear()

    async def _claim(self, slots: asyncio.Semaphore, job_id: str, text: str) -> None:
        async with slots:
            try:
                destination = await read_destination(self.node, text, datetime.now(UTC), self.rules)
                await refuse_used(self.node, destination.request)
                await claim(self.pool, job_id, destination, self.fee_limit)
            except NodeUnavailable as error:
                log.debug("a destination on file waits for the node: %s", error, extra={"job_id": job_id})
            except Problem as problem:
                await reject_on_file(self.pool, job_id, text, f"{problem.type.title}. {problem.detail}")
