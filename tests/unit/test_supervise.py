"""Long tasks: one that falls begins again, one that is stopped ends, whatever falls while it does."""

from __future__ import annotations

import asyncio

from gateway.metrics import Metrics
from gateway.supervise import Supervisor, raise_if_cancelled


async def test_a_task_that_falls_begins_again() -> None:
    metrics, runs, again = Metrics(), [], asyncio.Event()

    async def run() -> None:
        runs.append(len(runs))
        if len(runs) == 1:
            raise ConnectionError("lost")
        again.set()

    async with Supervisor(metrics) as tasks:
        await tasks.add("a task", run)
        async with asyncio.timeout(30):
            await again.wait()
    assert runs == [0, 1]
    assert metrics.restarts.labels("a task")._value.get() == 1


async def test_a_task_that_falls_while_it_is_stopped_has_ended() -> None:
    """An UNLISTEN that takes too long, on the way out."""
    metrics, begun, runs = Metrics(), asyncio.Event(), []

    async def run() -> None:
        runs.append(len(runs))
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            raise TimeoutError

    async with asyncio.timeout(30):
        async with Supervisor(metrics) as tasks:
            await tasks.add("a task", run)
            await begun.wait()
    assert runs == [0]
    assert metrics.restarts.labels("a task")._value.get() == 0


async def test_a_fault_of_a_task_that_is_stopped_is_its_end_and_no_other_is() -> None:
    began, passed = asyncio.Event(), []

    async def run() -> None:
        raise_if_cancelled(ConnectionError("nobody stops it"))
        passed.append("before")
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            raise_if_cancelled(ConnectionError("lost"))
            passed.append("after")

    task = asyncio.create_task(run())
    await began.wait()
    task.cancel()
    await asyncio.wait({task})
    assert (task.cancelled(), passed) == (True, ["before"])
