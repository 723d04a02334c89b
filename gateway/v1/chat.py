"""A chat request from its price to its last chunk: hold, ask the model, debit; shielded from its client.

A client that goes away, or does not read, stops nothing: the run goes on without it and is metered. The model has no
longer than any other work.
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
from gateway.v1.hand_over import HandOver
from gateway.v1.question import Question
from gateway.v1.upstream import Upstream
from gateway.work.openai_worker import INTERRUPTED
from gateway.work.worker import Done, WorkFailed


@dataclass(slots=True)
class Chat:
    """One request under way. Iterate over its chunks, then ask for its `bill`."""

    gateway: Gateway
    asked: Asked
    question: Question
    upstream: Upstream
    _hand_over: HandOver = field(default_factory=HandOver)
    _run: asyncio.Task[SessionResultView] | None = None

    def start(self) -> None:
        self._run = asyncio.create_task(self._to_the_end())

    async def _to_the_end(self) -> SessionResultView:
        try:
            return await self.gateway.session_runs.ended(self.asked.id, serve_run(self.gateway, self.asked, self._ask))
        finally:
            self._hand_over.end()

    async def _ask(self) -> Done | WorkFailed:
        limit_s = min(self.question.entry.timeout_s, self.gateway.settings.work_timeout_s)
        return await self.upstream.ask(self.question, self._hand_over.put, limit_s)

    def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """Until the request has ended and was metered; leaving early leaves it running."""
        return self._hand_over.chunks()

    async def bill(self) -> SessionResultView:
        """What it cost; `interrupted` also for a client that was cut off. Raises Problem: not covered, failed."""
        assert self._run is not None
        bill = await asyncio.shield(self._run)
        if self._hand_over.cut_off:
            return bill.model_copy(update={"result": {**bill.result, "finishReason": INTERRUPTED}})
        return bill
