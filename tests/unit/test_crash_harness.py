"""The harness counts every suspension, and changes nothing of what it wraps."""

from __future__ import annotations

import asyncio

import pytest

from tests.crash import Counted


async def test_each_suspension_is_counted_also_of_what_is_awaited() -> None:
    async def inner() -> int:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return 3

    async def outer() -> int:
        await asyncio.sleep(0)
        return await inner() + 4

    points: list[int] = []
    assert await Counted(outer(), points.append) == 7
    assert points == [1, 2, 3]


async def test_errors_and_cancellation_pass_through() -> None:
    reached, cancelled = asyncio.Event(), []

    async def waits() -> None:
        try:
            reached.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def wrapped() -> None:
        await Counted(waits(), lambda _: None)

    task = asyncio.create_task(wrapped())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled == [True]

    async def falls() -> None:
        await asyncio.sleep(0)
        raise LookupError("here")

    with pytest.raises(LookupError, match="here"):
        await Counted(falls(), lambda _: None)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await Counted(waits(), lambda _: None)
