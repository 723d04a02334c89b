"""The requests that this process runs: each ends and is metered, whether or not its client still waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from gateway.ids import new_id
from gateway.problems import Problem
from ledger import sql
from ledger.database import Connection

_q = sql.load("gateway.sessions")
log = logging.getLogger(__name__)

T = TypeVar("T")


class Runs:
    """`owner` names this process in the leases of its requests; `slots` bound how many workers it runs at once."""

    def __init__(self, concurrent: int) -> None:
        self.owner = new_id()
        self.slots = asyncio.Semaphore(concurrent)
        self._running: dict[asyncio.Task[Any], str] = {}

    @property
    def ids(self) -> list[str]:
        """Of the requests that have not ended."""
        return list(self._running.values())

    async def ended(self, request_id: str, run: Coroutine[Any, Any, T]) -> T:
        """Run to the end; a caller that is cancelled leaves it running. Raises what the run raises."""
        task = asyncio.create_task(run)
        self._running[task] = request_id

        def forget(done: asyncio.Task[T]) -> None:
            del self._running[done]
            error = None if done.cancelled() else done.exception()
            if error is not None and not isinstance(error, Problem):
                log.warning("request fell: %s: %s", type(error).__name__, error, extra={"request_id": request_id})

        task.add_done_callback(forget)
        return await asyncio.shield(task)

    async def all_ended(self, timeout_s: float) -> None:
        """The process stops: wait for what runs, but not for ever; what is left is released when its lease ends."""
        if self._running:
            await asyncio.wait(list(self._running), timeout=timeout_s)

    async def renew_leases(self, conn: Connection, lease_s: float) -> None:
        """While this process lives, nobody takes its requests for lost."""
        if self._running:
            await conn.execute(_q.renew_leases, self.owner, self.ids, lease_s)
