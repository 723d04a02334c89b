"""`/operator/live`: tells an operator's open page that something happened. What, it looks up itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from aiohttp import web

from gateway.api.events import HEADERS, HEARTBEAT_S, is_there, one_of
from gateway.context import GATEWAY
from gateway.operator.sessions import find_session
from gateway.pages.operator.access import COOKIE
from gateway.problems import Problem, ProblemType
from ledger.database import DATABASE_AWAY

STREAMS = 50
"""Open at once in a process, of all the operator's pages. One that its page has left counts until the next `look`."""
AT_MOST_EVERY_S = 1.0
"""Under load a page is told once a second, however much happens."""

TOO_MANY_STREAMS = ProblemType("too_many_streams", 503, "Too many pages are followed live")


@dataclass(slots=True)
class Streams:
    """How many are open."""

    open: int = 0

    @contextlib.contextmanager
    def one_more(self) -> Iterator[None]:
        """Raises Problem (503): there are enough."""
        if self.open >= STREAMS:
            raise Problem(TOO_MANY_STREAMS, "Close one of them.", headers={"Retry-After": "15"})
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


STREAMS_OPEN: web.AppKey[Streams] = web.AppKey("operator_streams", Streams)


async def stream(request: web.Request) -> web.StreamResponse:
    """`look` at once, at each change, and every 15 s, because an unpaid sale and a session's request tell nobody.

    Before each, the session is looked up: when it is over, `ended` is the last word.
    """
    gateway = request.app[GATEWAY]
    response = web.StreamResponse(headers=HEADERS)
    with request.app[STREAMS_OPEN].one_more(), gateway.hub.watch_all() as changed, contextlib.suppress(*DATABASE_AWAY):
        await response.prepare(request)
        while not gateway.stopping.is_set() and is_there(request):
            changed.clear()
            if await find_session(gateway, request.cookies[COOKIE]) is None:
                await response.write(b"event: ended\ndata: over\n\n")
                break
            await response.write(b"event: look\ndata: now\n\n")
            await one_of(gateway.stopping, within_s=AT_MOST_EVERY_S)
            await one_of(changed, gateway.stopping, within_s=HEARTBEAT_S)
    return response
