"""One settlement to the gateway's webhook: at least once, with backoff, and never in another's way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import aiohttp

from gateway import problems
from gateway.problems import Problem
from gateway.settlement.event import SettledEvent
from ledger.database import DATABASE_AWAY
from lightning.types import NodeUnavailable

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
BACKOFF_S = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Between the attempts before an event is parked."""


@dataclass(frozen=True, slots=True)
class Delivered:
    pass


@dataclass(frozen=True, slots=True)
class Refused:
    """Not acknowledged; `why` is for the log and the parked row."""

    why: str


class Sender(Protocol):
    """Takes an event to the webhook and answers what became of it."""

    async def once(self, event: SettledEvent) -> Delivered | Refused: ...


@dataclass(frozen=True, slots=True)
class HttpSender:
    """Posts to the webhook. At most `slots` requests at once; an event that waits for its next try holds none."""

    session: aiohttp.ClientSession
    url: str
    secret: str
    slots: asyncio.Semaphore

    async def once(self, event: SettledEvent) -> Delivered | Refused:
        """Only 2xx, and 404 with `code: unknown_invoice`, acknowledge."""
        async with self.slots:
            try:
                async with self.session.post(
                    self.url,
                    data=event.body.encode(),
                    headers=event.signed_headers(self.secret, datetime.now(UTC)),
                    timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                    allow_redirects=False,
                ) as response:
                    if 200 <= response.status < 300:
                        return Delivered()
                    code = await _problem_code(response)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                return Refused(f"{type(error).__name__}: {error}")
        if response.status == 404 and code == "unknown_invoice":
            return Delivered()
        return Refused(f"HTTP {response.status} {code}".strip())


@dataclass(frozen=True, slots=True)
class InsideSender:
    """To the webhook of its own process, without the way over HTTP: the same bytes, signature and refusals.

    `receive` is what the webhook does with a body and its headers.
    """

    receive: Callable[[bytes, Mapping[str, str]], Awaitable[None]]
    secret: str
    slots: asyncio.Semaphore

    async def once(self, event: SettledEvent) -> Delivered | Refused:
        """As `HttpSender.once`; what falls in there is a refusal, and holds up no other event."""
        async with self.slots:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await self.receive(event.body.encode(), event.signed_headers(self.secret, datetime.now(UTC)))
            except Problem as refusal:
                unknown = refusal.type is problems.UNKNOWN_INVOICE
                return Delivered() if unknown else Refused(f"{refusal.type.status} {refusal.type.code}")
            except (NodeUnavailable, *DATABASE_AWAY) as error:
                return Refused(f"{type(error).__name__}: {error}")
            except Exception as error:
                log.exception("a fault of ours at a settlement")
                return Refused(f"{type(error).__name__}: {error}")
        return Delivered()


async def persistently(sender: Sender, event: SettledEvent) -> Delivered | Refused:
    """With backoff; Refused when it kept failing and is to be parked."""
    outcome: Delivered | Refused = Refused("not tried")
    for delay_s in (*BACKOFF_S, None):
        outcome = await sender.once(event)
        if isinstance(outcome, Delivered) or delay_s is None:
            break
        await asyncio.sleep(delay_s)
    return outcome


async def _problem_code(response: aiohttp.ClientResponse) -> str:
    try:
        body = await response.json(content_type="application/problem+json")
    except (aiohttp.ClientError, ValueError):
        return ""
    return str(body.get("code", "")) if isinstance(body, dict) else ""
