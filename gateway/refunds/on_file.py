"""Refunds whose destination was given in advance are claimed as soon as they are owed.

An address stays on file for later debts of the job; an invoice is used up by the first claim.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial

from gateway import problems
from gateway.problems import Problem, ProblemType
from gateway.refunds.claim import ask_later, claim, due_on_file, owed_on, reject_on_file
from gateway.refunds.destination import DestinationRules, refuse_used, resolve_destination
from gateway.refunds.fees import FeeLimit
from ledger.database import DATABASE_AWAY, Pool
from lightning.node import Node
from lightning.types import NodeUnavailable

log = logging.getLogger(__name__)

POLL_S = 1.0
AT_ONCE = 16
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
    _delays: dict[str, float] = field(default_factory=dict)
    """Of owners whose address did not answer: how long it was left alone then."""

    async def run(self) -> None:
        """Until cancelled. Each owner by a task of its own: an address that is slow takes one of the places."""
        asking: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                if free := AT_ONCE - len(asking):
                    for owner_id, text in await due_on_file(self.pool, self.min_sats, list(asking), free):
                        asking[owner_id] = task = asyncio.create_task(self._guarded(owner_id, text))
                        task.add_done_callback(partial(self._ended, asking, owner_id))
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self.wake.wait()
                self.wake.clear()
        finally:
            for task in asking.values():
                task.cancel()
            await asyncio.gather(*asking.values(), return_exceptions=True)

    def _ended(self, asking: dict[str, asyncio.Task[None]], owner_id: str, task: asyncio.Task[None]) -> None:
        del asking[owner_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a destination on file fell: %s", type(error).__name__, extra={"job_id": owner_id})
        if len(asking) == AT_ONCE - 1:
            self.wake.set()

    async def _guarded(self, owner_id: str, text: str) -> None:
        """What falls is asked later: it holds up no other."""
        try:
            await self._claim(owner_id, text)
        except NodeUnavailable as error:
            log.debug("a destination on file waits for the node: %s", error, extra={"job_id": owner_id})
        except DATABASE_AWAY as error:
            log.debug("a destination on file waits for the database: %s", error, extra={"job_id": owner_id})
        except Exception:
            log.exception("a fault of ours at a destination on file", extra={"job_id": owner_id})
            await self._ask_later(owner_id, text)

    async def _claim(self, owner_id: str, text: str) -> None:
        try:
            owed = await owed_on(self.pool, owner_id)
            destination = await resolve_destination(self.node, text, owed, datetime.now(UTC), self.rules)
            if destination is None:
                return
            await refuse_used(self.node, destination.request)
            await claim(self.pool, owner_id, destination, self.fee_limit, self.min_sats, from_file=True)
        except Problem as problem:
            await self._refused(owner_id, text, problem)
        else:
            self._delays.pop(owner_id, None)

    async def _refused(self, owner_id: str, text: str, problem: Problem) -> None:
        match what_it_means(problem.type):
            case Meaning.LOOK_AGAIN:
                log.debug("a destination on file is looked at again: %s", problem.detail, extra={"job_id": owner_id})
            case Meaning.ASK_LATER:
                await self._ask_later(owner_id, text)
            case Meaning.REJECTED:
                self._delays.pop(owner_id, None)
                await reject_on_file(self.pool, owner_id, text, f"{problem.type.title}. {problem.detail}")

    async def _ask_later(self, owner_id: str, text: str) -> None:
        """In the database, so that those who wait take no place from those who are due."""
        delay_s = min(MAX_BACKOFF_S, 2 * self._delays.get(owner_id, POLL_S))
        self._delays[owner_id] = delay_s
        await ask_later(self.pool, owner_id, text, delay_s)
