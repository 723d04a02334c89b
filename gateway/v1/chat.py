"""A chat request from its price to its last chunk: hold, ask the model, debit; shielded from its client.

The run feeds a small queue. A client that goes away stops reading: the run goes on without it and is metered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from gateway.api.models import SessionResultView
from gateway.context import Gateway
from gateway.sessions.request import Asked
from gateway.sessions.serve import serve_run
from gateway.v1.question import Question
from gateway.v1.upstream import Upstream
from gateway.work.worker import Done, WorkFailed

WAITING_CHUNKS = 64


@dataclass(slots=True)
class Chat:
    """One request under way. Iterate over its chunks, then ask for its `bill`."""

    gateway: Gateway
    asked: Asked
    question: Question
    upstream: Upstream
    left: bool = False
    """The client has gone: nothing is handed to it any more."""
    _chunks: asyncio.Queue[dict[str, Any] | None] = field(default_factory=lambda: asyncio.Queue(WAITING_CHUNKS))
    _run: asyncio.Task[SessionResultView] | None = None

    def start(self) -> None:
        self._run = asyncio.create_task(self._to_the_end())

    async def _to_the_end(self) -> SessionResultView:
        try:
            return await self.gateway.session_runs.ended(self.asked.id, serve_run(self.gateway, self.asked, self._ask))
        finally:
            await self._hand_over(None)

    async def _ask(self) -> Done | WorkFailed:
        return await self.upstream.ask(self.question, self._hand_over)

    async def _hand_over(self, chunk: dict[str, Any] | None) -> None:
        if not self.left:
            await self._chunks.put(chunk)

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """Until the request has ended and was metered; leaving early leaves it running."""
        try:
            while (chunk := await self._chunks.get()) is not None:
                yield chunk
        finally:
            self.left = True
            while not self._chunks.empty():  # a run that waits for room goes on
                self._chunks.get_nowait()

    async def bill(self) -> SessionResultView:
        """What it cost. Raises Problem: not covered, failed."""
        assert self._run is not None
        return await asyncio.shield(self._run)
