"""An operator's open page is told that something happened, until its session is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

from gateway.pages.operator import live
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web
from tests.web.operator_browser import Operator, operating


@pytest.fixture(autouse=True)
def told_at_once_and_only_when_something_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 3600.0)
    monkeypatch.setattr(live, "AT_MOST_EVERY_S", 0.0)


@dataclass
class Stream:
    response: aiohttp.ClientResponse

    async def next(self) -> str:
        """The name of the next event; empty at the stream's end."""
        async with asyncio.timeout(PATIENCE_S):
            async for line in self.response.content:
                if line.startswith(b"event: "):
                    return line[7:].decode().strip()
        return ""


@asynccontextmanager
async def following(web: Web, operator: Operator) -> AsyncIterator[Stream]:
    async with operator.session.get(f"{web.url}/operator/live", allow_redirects=False) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert response.headers["Cache-Control"] == "no-store"
        stream = Stream(response)
        assert await stream.next() == "look", "what happened before it was open"
        yield stream


async def test_without_a_session_nobody_is_told(web: Web) -> None:
    async with operating(web, logged_in=False) as operator:
        page = await operator.get("/operator/live")
    assert (page.status, page.headers["Location"]) == (303, "/operator/login")


async def test_a_sale_is_told(web: Web) -> None:
    async with operating(web) as operator, following(web, operator) as stream:
        await web.owing()
        assert await stream.next() == "look"


async def test_what_the_operator_does_is_told_whoever_did_it(web: Web) -> None:
    async with operating(web) as operator, following(web, operator) as stream:
        await web.gateway.pool.execute(
            "insert into operator_actions (who, action, subject, said, outcome)"
            " values ('command', 'topup', 'pool', '1 sats', 'done')"
        )
        assert await stream.next() == "look"


async def test_logged_out_it_ends(web: Web) -> None:
    async with operating(web) as operator, following(web, operator) as stream:
        assert (await operator.send("/operator/logout")).status == 303
        assert await last_words(stream) == ["ended", ""]


async def test_ended_from_another_session_it_ends(web: Web) -> None:
    async with operating(web) as forgotten, following(web, forgotten) as stream, operating(web) as operator:
        oldest = await web.gateway.pool.fetchval("select id from operator_sessions order by created_at limit 1")
        assert (await operator.send(f"/operator/logins/{oldest}/end")).status == 303
        assert await last_words(stream) == ["ended", ""]
        async with following(web, operator):
            pass


async def last_words(stream: Stream) -> list[str]:
    """What is said after the looks."""
    while (said := await stream.next()) == "look":
        pass
    return [said, await stream.next()]


async def test_at_the_gateways_end_it_ends(web: Web) -> None:
    async with operating(web) as operator, following(web, operator) as stream:
        web.gateway.stopping.set()
        assert await last_words(stream) == ["", ""]


async def test_more_than_enough_streams_are_refused_and_one_that_was_left_makes_room(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "STREAMS", 2)
    async with operating(web) as operator:
        async with following(web, operator), following(web, operator):
            page = await operator.get("/operator/live")
            assert (page.status, page.headers["Retry-After"]) == (503, "15")
            assert "too_many_streams" in page.text
        async with asyncio.timeout(PATIENCE_S):
            while (await left(web, operator)) != 200:
                await asyncio.sleep(0.01)


async def left(web: Web, operator: Operator) -> int:
    """Something happens, which is when a stream without its client is noticed; and another one asks."""
    web.gateway.hub.tell("somebody")
    async with operator.session.get(f"{web.url}/operator/live") as response:
        return response.status
