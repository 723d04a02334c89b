"""The queue's listener goes on, whatever it meets, and ends when it is told to."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import asyncpg
import pytest

from gateway.execution import driver
from gateway.execution.driver import PatientDriver
from ledger.database import Pool
from tests.waiting import PATIENCE_S


async def test_a_listener_that_meets_a_refusal_listens_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another database under the name, another password: the queue would wait for its first word without end."""
    monkeypatch.setattr(driver, "RETRY_S", 0.01)
    tries = []

    async def listen(_self: Any, _channel: str, _callback: Any, listening: asyncio.Event) -> None:
        tries.append(len(tries))
        if len(tries) < 3:
            raise asyncpg.InvalidCatalogNameError("no such database")
        listening.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(PatientDriver, "_listen", listen)
    queue = PatientDriver(cast(Pool, None))
    async with asyncio.timeout(PATIENCE_S):
        await queue.add_listener("a channel", lambda _: None)
        await queue.stop_listening()
    assert tries == [0, 1, 2]


async def test_a_statement_that_is_stopped_is_not_tried_again() -> None:
    """A connection that breaks while it is given back takes the place of the cancellation."""
    began, tries = asyncio.Event(), []

    async def statement() -> None:
        tries.append(len(tries))
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            raise ConnectionError("broken")

    task = asyncio.create_task(driver._patiently(statement))
    await began.wait()
    task.cancel()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait({task})
    assert (task.cancelled(), tries) == (True, [0])
