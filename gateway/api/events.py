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
GATHER_S = 0.02
"""A stream reads no more often: a change is told by who made it and by PostgreSQL, and seldom comes alone."""
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True)
class Moment:
    """What there is to say, and as of when."""

    text: str
    at: datetime


async def stream(
    request: web.Request,
    gateway: Gateway,
    watched: str,
    event: str,
    now: Callable[[], Awaitable[Moment]],
    first: Callable[[], Awaitable[Moment]] | None = None,
) -> web.StreamResponse:
    """The current state first, then changes of `watched` (an id), a comment every 15 s.

    `first` is `now` with a look at who asks: a Problem that it raises refuses the stream before it begins.
    Ends with the process, with its client, and when the database goes away: clients connect again by themselves.
    """
    response = web.StreamResponse(headers=HEADERS)
    loop = asyncio.get_running_loop()
    with gateway.hub.watch(watched) as changed:
        moment, read_at = await (first or now)(), loop.time()
        await response.prepare(request)
        last = ""
        with contextlib.suppress(*DATABASE_AWAY):
            while not gateway.stopping.is_set() and is_there(request):
                if moment.text != last:
                    event_id = int(moment.at.timestamp() * 1_000_000)
                    await response.write(f"event: {event}\nid: {event_id}\ndata: {moment.text}\n\n".encode())
                    last = moment.text
                if not await one_of(changed, gateway.stopping, within_s=HEARTBEAT_S):
                    await response.write(b": still here\n\n")
                await asyncio.sleep(max(0.0, read_at + GATHER_S - loop.time()))
                if is_there(request):
                    changed.clear()
                    moment, read_at = await now(), loop.time()
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
