"""Tells what the outbox holds: each endpoint by a task of its own, so that a slow one holds up no other.

A delivery is leased and counted before it is sent. A process that dies in mid-send loses its lease, and the event is
sent again: at least once, with one `webhook-id` for all attempts. Nothing is promised of the order.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
from standardwebhooks import Webhook

from gateway.ids import webhook_secret
from gateway.webhooks.decisions import BACKOFF_S, Again, Delivered, GiveUp, Step, after_attempt
from ledger import sql
from ledger.database import Pool

_q = sql.load("gateway.webhooks")
log = logging.getLogger(__name__)

POLL_S = 0.5
AT_ONCE = 8
"""To one endpoint."""
TIMEOUT_S = 15.0
LEASE_S = 45.0
MAX_ERROR = 300
MAX_ATTEMPTS = len(BACKOFF_S) + 4


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` None: no answer came."""

    status: int | None
    error: str | None = None


@dataclass(slots=True)
class Outbox:
    pool: Pool
    session: aiohttp.ClientSession
    token_secret: str
    _telling: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def run(self) -> None:
        """Until cancelled, which is safe at any moment."""
        try:
            while True:
                for row in await self.pool.fetch(_q.due_endpoints):
                    self._tell_all(row["id"])
                await asyncio.sleep(POLL_S)
        finally:
            for task in self._telling.values():
                task.cancel()
            await asyncio.gather(*self._telling.values(), return_exceptions=True)

    def _tell_all(self, endpoint_id: str) -> None:
        if endpoint_id in self._telling:
            return
        task = asyncio.create_task(self._empty(endpoint_id))
        self._telling[endpoint_id] = task
        task.add_done_callback(lambda done: self._ended(endpoint_id, done))

    def _ended(self, endpoint_id: str, task: asyncio.Task[None]) -> None:
        del self._telling[endpoint_id]
        _say_why_it_fell(endpoint_id, task)

    async def _empty(self, endpoint_id: str) -> None:
        """Until nothing is due for this endpoint. One that is slow takes a place of its own, and holds up no other."""
        signer = Webhook(webhook_secret(self.token_secret, endpoint_id))
        sending: set[asyncio.Task[None]] = set()
        try:
            while True:
                if free := AT_ONCE - len(sending):
                    rows = await self.pool.fetch(_q.lease_due, endpoint_id, free, LEASE_S)
                    sending |= {asyncio.create_task(self._tell(endpoint_id, row, signer)) for row in rows}
                if not sending:
                    return
                ended, sending = await asyncio.wait(sending, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    _say_why_it_fell(endpoint_id, task)
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)

    async def _tell(self, endpoint_id: str, row: Any, signer: Webhook) -> None:
        if row["attempts"] > MAX_ATTEMPTS:  # the processes that tried have died of it, one after another
            await self._record(endpoint_id, row, Answer(None, "Nobody lived to hear the answer."), GiveUp())
            return
        answer = await self._send(row, signer)
        step = after_attempt(answer.status, row["attempts"], random.random())  # noqa: S311 - spreads retries only
        await self._record(endpoint_id, row, answer, step)

    async def _send(self, row: Any, signer: Webhook) -> Answer:
        now, event_id, body = datetime.now(UTC), row["event_id"], row["body"]
        headers = {
            "Content-Type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signer.sign(event_id, now, body),
        }
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with self.session.post(
                row["url"], data=body.encode(), headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return Answer(response.status)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return Answer(None, f"{type(error).__name__}: {error}"[:MAX_ERROR])

    async def _record(self, endpoint_id: str, row: Any, answer: Answer, step: Step) -> None:
        attempt = (row["id"], row["attempts"])
        match step:
            case Delivered():
                await self.pool.execute(_q.delivered, row["id"], answer.status)
            case Again(in_s):
                await self.pool.execute(_q.try_again, *attempt, in_s, answer.status, answer.error)
            case GiveUp(gone):
                await self.pool.execute(_q.given_up, *attempt, answer.status, answer.error)
                log.warning("a webhook is given up", extra={"webhook_delivery": row["id"]})
                if gone:
                    await self.pool.execute(_q.switch_off, endpoint_id, "The address answered 410: it is gone.")


def _say_why_it_fell(endpoint_id: str, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("telling fell: %s: %s", type(error).__name__, error, extra={"webhook_endpoint": endpoint_id})


async def forget_old(pool: Pool) -> None:
    await pool.execute(_q.forget_old)
