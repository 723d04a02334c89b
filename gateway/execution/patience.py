"""What runs of work and of the evaluator share: a stop that gives some grace, an end that is recorded come what may."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from gateway.execution.queue import HandBack
from ledger.database import DATABASE_AWAY

T = TypeVar("T")
log = logging.getLogger(__name__)

MAX_LOST_RUNS = 3
"""Runs that nobody ended, because their process died; after so many it is given up."""


async def within_grace(work: Coroutine[Any, Any, T], stopping: asyncio.Event, grace_s: float) -> T:
    """The work's outcome. Raises HandBack when the process stops and the grace is over first."""

    async def grace_is_over() -> None:
        await stopping.wait()
        await asyncio.sleep(grace_s)

    running, stop = asyncio.create_task(work), asyncio.create_task(grace_is_over())
    try:
        await asyncio.wait({running, stop}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
    finally:
        for task in (running, stop):
            task.cancel()
        await asyncio.wait({running, stop})
    raise HandBack


async def recorded(record: Callable[[], Awaitable[T]], stopping: asyncio.Event) -> T:
    """The outcome is in hand: a database that is away is waited for; a restart runs the work again.

    Raises HandBack when the process stops first.
    """
    delay_s = 0.1
    while True:
        try:
            return await record()
        except DATABASE_AWAY:
            if stopping.is_set():
                raise HandBack from None
            log.warning("the database is away, an outcome waits")
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, 5.0)
