"""One stack owns all long tasks: a task that falls is logged, counted and started again, until the stack closes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self

from gateway.metrics import Metrics

log = logging.getLogger(__name__)

MAX_BACKOFF_S = 10.0


def raise_if_cancelled(error: BaseException) -> None:
    """CancelledError if somebody cancelled this task: what falls in its `finally` then, `error`, takes its place.

    A loop that took that for a fall, and went on, would be waited for without end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError from error


class Supervisor:
    """`add` starts a task; leaving the block cancels all, last added first, and waits for each."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._stack = AsyncExitStack()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def add(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        await self._stack.enter_async_context(self._running(name, run))

    async def finished(self, name: str, timeout_s: float) -> None:
        """Wait until a task that ends by itself (because it was told to stop) has ended, but not for ever."""
        if (task := self._tasks.get(name)) is not None:
            await asyncio.wait({task}, timeout=timeout_s)

    @asynccontextmanager
    async def _running(self, name: str, run: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        task = asyncio.create_task(self._keep_alive(name, run), name=name)
        self._tasks[name] = task
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _keep_alive(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        backoff_s = 0.2
        while True:
            started = asyncio.get_running_loop().time()
            try:
                await run()
                return
            except Exception as error:
                raise_if_cancelled(error)
                log.warning("%s fell: %s: %s; starting it again", name, type(error).__name__, error)
                log.debug("%s fell", name, exc_info=True)
                self._metrics.restarts.labels(name).inc()
            if asyncio.get_running_loop().time() - started > 60:
                backoff_s = 0.2
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
