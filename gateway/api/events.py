"""Server-sent events: the state now, then each change, for whoever follows a job or a session."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from gateway.context import Gateway
from ledger.database import DATABASE_AWAY

HEARTBEAT_S = 15.0
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True)
class Moment:
    """What there is to say, and as of when."""

    text: str
    at: datetime


async def stream(
    request: web.Request, gateway: Gateway, watched: str, event: str, now: Callable[[], Awaitable[Moment]]
) -> web.StreamResponse:
    """The current state first, then each change of `watched` (an id), a comment every 15 s.

    Ends with the process, with its client, and when the database goes away: clients connect again by themselves.
    """
    response = web.StreamResponse(headers=HEADERS)
    with gateway.hub.watch(watched) as changed, contextlib.suppress(*DATABASE_AWAY):
        await response.prepare(request)
        last = ""
        while not gateway.stopping.is_set() and is_there(request):
            changed.clear()
            moment = await now()
            if moment.text != last:
                event_id = int(moment.at.timestamp() * 1_000_000)
                await response.write(f"event: {event}\nid: {event_id}\ndata: {moment.text}\n\n".encode())
                last = moment.text
            if not await one_of(changed, gateway.stopping, within_s=HEARTBEAT_S):
                await response.write(b": still here\n\n")
    return response


def is_there(request: web.Request) -> bool:
    """Its client has not gone yet."""
    return request.transport is not None and not request.transport.is_closing()


async def one_of(*events: asyncio.Event, within_s: float) -> bool:
    """Whether one of them was set in time."""
    waits = {asyncio.create_task(event.wait()) for event in events}
    try:
        done, _ = await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
    return bool(done)
