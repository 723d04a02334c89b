"""One question to the model's server: its answer is passed on as it comes, and metered by the `usage` it reports."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from gateway.catalogue.estimate import token_cost_sats
from gateway.v1.question import Question
from gateway.work.http_answers import TRANSPORT_FAULTS, AnswerTooLong, read_bounded
from gateway.work.openai_stream import BrokenAnswer, Usage, data_lines, parsed, storable, usage_of
from gateway.work.openai_worker import BYTES_PER_TOKEN_AT_LEAST_CHARGED, CONNECT_TIMEOUT_S, INTERRUPTED, OpenAiWorker
from gateway.work.worker import Done, WorkFailed

log = logging.getLogger(__name__)

SAID = ("content", "tool_calls", "refusal", "function_call")
"""What a model can say in a message."""

PassOn = Callable[[dict[str, Any]], Awaitable[None]]
"""Gets each chunk of a streamed answer, or the whole of one that is not."""


@dataclass(slots=True)
class _Heard:
    usage: Usage | None = None
    answer_bytes: int = 0
    """Of text and tool calls: what is charged for when the server does not count."""
    finish_reason: str | None = None

    @property
    def said_something(self) -> bool:
        return self.answer_bytes > 0


@dataclass(frozen=True, slots=True)
class Upstream:
    """The model's server, as the worker of the catalogue's entry reaches it."""

    worker: OpenAiWorker

    async def ask(self, question: Question, pass_on: PassOn, limit_s: float) -> Done | WorkFailed:
        """A failure as long as nothing was said; after that, what was said is charged, though the answer broke off.

        `limit_s` bounds all of it, passing on included.
        """
        heard = _Heard()
        try:
            async with asyncio.timeout(limit_s):
                refusal = await self._ask(question, heard, pass_on)
        except TRANSPORT_FAULTS as fault:
            log.warning("model server lost: %s", type(fault).__name__)
            refusal = WorkFailed("The model server could not be reached.")
        except AnswerTooLong:
            refusal = WorkFailed("The model server answered with too much.")
        except BrokenAnswer:
            refusal = WorkFailed("The model server broke off its answer.")
        if not heard.said_something:
            return refusal or WorkFailed("The model answered with nothing.")
        return _metered(question, heard, broken=refusal is not None)

    async def _ask(self, question: Question, heard: _Heard, pass_on: PassOn) -> WorkFailed | None:
        async with self.worker.session.post(
            question.entry.base_url.rstrip("/") + "/chat/completions",
            data=json.dumps(question.body, ensure_ascii=False, allow_nan=False).encode(),
            headers=self.worker.headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S),
        ) as response:
            if response.status != 200:
                return WorkFailed(f"The model server refused the request (HTTP {response.status}).")
            if response.content_type == "application/json":
                await _hear(
                    parsed(await read_bounded(response, self.worker.max_answer_bytes)), question, heard, pass_on
                )
                return None
            async for data in data_lines(response, self.worker.max_answer_bytes):
                if data == b"[DONE]":
                    break
                await _hear(parsed(data), question, heard, pass_on)
        return None


async def _hear(chunk: dict[str, Any], question: Question, heard: _Heard, pass_on: PassOn) -> None:
    """Raises BrokenAnswer: it is no chunk of a chat completion."""
    heard.usage = usage_of(chunk.get("usage")) or heard.usage
    for choice in _objects(chunk.get("choices")):
        for said in _objects([choice.get("delta") or choice.get("message") or {}]):
            parts = [said[name] for name in SAID if said.get(name)]
            heard.answer_bytes += sum(
                len(json.dumps(part, ensure_ascii=False).encode(errors="replace")) for part in parts
            )
        if isinstance(choice.get("finish_reason"), str):
            heard.finish_reason = storable(choice["finish_reason"][:40])
    await pass_on({**chunk, "model": question.entry.name})


def _objects(values: Any) -> list[dict[str, Any]]:
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise BrokenAnswer("no list of objects")
    return values


def _metered(question: Question, heard: _Heard, *, broken: bool) -> Done:
    usage = heard.usage or Usage(
        -(-len(json.dumps(question.body["messages"]).encode()) // BYTES_PER_TOKEN_AT_LEAST_CHARGED),
        -(-heard.answer_bytes // BYTES_PER_TOKEN_AT_LEAST_CHARGED),
    )
    result = {
        "model": question.entry.name,
        "finishReason": INTERRUPTED if broken else heard.finish_reason or "stop",
        "usage": {
            "inputTokens": usage.input_tokens,
            "outputTokens": usage.output_tokens,
            "metered": "usage" if heard.usage else "text",
        },
    }
    return Done(result, token_cost_sats(question.entry.price, usage.input_tokens, usage.output_tokens))
