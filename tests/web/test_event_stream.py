"""An event stream tells what changes while it reads, and what it read first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.api.events import Moment, stream
from gateway.live import Hub
from tests.waiting import PATIENCE_S

WATCHED = "a-job"


class Told:
    """What there is to read, and a change that is told at a moment of the test's choosing."""

    def __init__(self) -> None:
        self.hub, self.stopping = Hub(), asyncio.Event()
        self.text, self.reads = "before", 0

    async def now(self) -> Moment:
        self.reads += 1
        return Moment(self.text, datetime.now(UTC))

    async def first(self) -> Moment:
        """The change comes when this has read, and has not answered yet."""
        moment = await self.now()
        self.change("after")
        return moment

    def change(self, text: str) -> None:
        self.text = text
        self.hub.tell(WATCHED)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        gateway: Any = SimpleNamespace(hub=self.hub, stopping=self.stopping)
        return await stream(request, gateway, WATCHED, "job", self.now, self.first)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest_asyncio.fixture
async def lines(told: Told) -> AsyncIterator[aiohttp.StreamReader]:
    app = web.Application()
    app.router.add_get("/", told.answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as http, http.get(server.make_url("/")) as response:
        yield response.content
        told.stopping.set()


async def data(lines: aiohttp.StreamReader) -> str:
    async with asyncio.timeout(PATIENCE_S):
        while not (line := await lines.readline()).startswith(b"data: "):
            assert line
    return line[6:].decode().strip()


async def test_a_change_while_it_reads_first_is_told(told: Told, lines: aiohttp.StreamReader) -> None:
    assert [await data(lines), await data(lines)] == ["before", "after"]
    assert told.hub.watched == 1


async def test_changes_that_come_together_are_read_together(told: Told, lines: aiohttp.StreamReader) -> None:
    assert [await data(lines), await data(lines)] == ["before", "after"]
    for number in range(50):
        told.change(f"step {number}")
    assert await data(lines) == "step 49"
    assert told.reads <= 4
