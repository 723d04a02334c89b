"""Slow prices take one thread together, only so many wait for it, and nothing else does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from gateway.catalogue import Catalogue, WorkEntry, load_catalogue
from gateway.jobs import price as pricing
from gateway.jobs.price import Priced, price
from gateway.problems import Problem
from tests.waiting import PATIENCE_S

CATALOGUE = load_catalogue(None)
PDF = "markdown-pdf"


class Slow:
    """Prices wait here until they are let go."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.now = self.most = 0

    def __call__(self, entry: WorkEntry, work_input: Mapping[str, Any]) -> Priced:
        self.now += 1
        self.most = max(self.most, self.now)
        self.begun.release()
        assert self.go.wait(PATIENCE_S)
        self.now -= 1
        return Priced(entry, work_input, 1)

    async def until_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=PATIENCE_S)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    slow = Slow()
    monkeypatch.setattr(pricing, "_price", slow)
    monkeypatch.setattr(pricing, "_PLACES", threading.BoundedSemaphore(3))
    yield slow
    slow.go.set()


def asking(count: int) -> list[asyncio.Task[Priced]]:
    return [asyncio.create_task(price(CATALOGUE, PDF, {"markdown": str(number)})) for number in range(count)]


async def refused(catalogue: Catalogue = CATALOGUE) -> Problem:
    with pytest.raises(Problem) as caught:
        await price(catalogue, PDF, {"markdown": "one too many"})
    return caught.value


async def test_slow_prices_are_made_one_after_the_other_and_one_too_many_is_refused(slow: Slow) -> None:
    waiting = asking(3)
    await slow.until_begun()
    problem = await refused()
    assert (problem.type.code, problem.type.status, problem.headers) == ("not_ready", 503, {"Retry-After": "5"})
    slow.go.set()
    async with asyncio.timeout(PATIENCE_S):
        assert [priced.input["markdown"] for priced in await asyncio.gather(*waiting)] == ["0", "1", "2"]
        assert (await price(CATALOGUE, PDF, {"markdown": "later"})).input == {"markdown": "later"}
    assert slow.most == 1


async def test_who_goes_away_leaves_the_place_to_another(slow: Slow) -> None:
    waiting = asking(3)
    await slow.until_begun()
    waiting[2].cancel()
    await asyncio.gather(waiting[2], return_exceptions=True)
    another = asyncio.create_task(price(CATALOGUE, PDF, {"markdown": "another"}))
    slow.go.set()
    async with asyncio.timeout(PATIENCE_S):
        assert (await another).input == {"markdown": "another"}
        await asyncio.gather(*waiting[:2])


async def test_a_price_that_is_refused_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pricing, "_PLACES", threading.BoundedSemaphore(1))
    for _ in range(2):
        with pytest.raises(Problem) as caught:
            await price(CATALOGUE, PDF, {"markdown": " "})
        assert caught.value.type.code == "invalid_input"
    assert (await price(CATALOGUE, PDF, {"markdown": "a"})).estimate_sats > 0
