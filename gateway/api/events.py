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
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    with gateway.hub.watch(watched) as changed, contextlib.suppress(*DATABASE_AWAY):
        await response.prepare(request)
        last = ""
        while not gateway.stopping.is_set() and _is_there(request):
            changed.clear()
            moment = await now()
            if moment.text != last:
                event_id = int(moment.at.timestamp() * 1_000_000)
                await response.write(f"event: {event}\nid: {event_id}\ndata: {moment.text}\n\n".encode())
                last = moment.text
            await _change_or_heartbeat(gateway, changed, response)
    return response


def _is_there(request: web.Request) -> bool:
    """Its client has not gone yet."""
    return request.transport is not None and not request.transport.is_closing()


async def _change_or_heartbeat(gateway: Gateway, changed: asyncio.Event, response: web.StreamResponse) -> None:
    waits = {asyncio.create_task(changed.wait()), asyncio.create_task(gateway.stopping.wait())}
    try:
        done, _ = await asyncio.wait(waits, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
    if not done:
        await response.write(b": still here\n\n")
