"""From a run to its client: a bounded number of chunks wait, and for a bounded time.

A client that leaves, or that does not take what waits for it, gets no more; the run goes on without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

WAITING_CHUNKS = 64
CLIENT_PATIENCE_S = 15.0
"""How long a run stands still for its client, all its waits together: one that reads a byte now and then wins nothing.

It holds a work slot in that time, and what its client has paid for is made no faster than it is read.
"""


class HandOver:
    """One run puts chunks and ends; one client takes them. Whoever waits for room is the run."""

    def __init__(self, patience_s: float | None = None) -> None:
        self._patience_s = CLIENT_PATIENCE_S if patience_s is None else patience_s
        self._room = asyncio.Semaphore(WAITING_CHUNKS)
        self._chunks: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._over = False
        self.cut_off = False
        """The client took too long, and was given less than the run said."""

    async def put(self, chunk: dict[str, Any]) -> None:
        if not self._over and not await self._has_room():
            self.cut_off = True
            self._forget()
            self.end()
        if not self._over:
            self._chunks.put_nowait(chunk)

    def end(self) -> None:
        """The run has ended. Waits for nobody."""
        self._over = True
        self._chunks.put_nowait(None)

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        try:
            while (chunk := await self._chunks.get()) is not None:
                self._room.release()
                yield chunk
        finally:
            self._over = True
            self._forget()
            self._room.release()

    async def _has_room(self) -> bool:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._patience_s):
                await self._room.acquire()
        except TimeoutError:
            return False
        finally:
            self._patience_s -= loop.time() - began
        return True

    def _forget(self) -> None:
        while not self._chunks.empty():
            self._chunks.get_nowait()
