"""The `openai` worker: any OpenAI-compatible endpoint, streamed, metered by the `usage` it reports."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from gateway.catalogue.estimate import token_cost_sats
from gateway.catalogue.json_values import text_fault
from gateway.catalogue.model import OpenAiWork
from gateway.work.chat_input import chat_messages, output_tokens_at_most
from gateway.work.http_answers import RETRY_DELAYS_S, TRANSPORT_FAULTS, AnswerTooLong, pause_before_retry
from gateway.work.openai_stream import BrokenAnswer, Finish, TextPart, Usage, chat_events, storable
from gateway.work.worker import Done, WorkFailed, WorkOrder

_LOG = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 64 * 1024 * 1024
CONNECT_TIMEOUT_S = 10
BYTES_PER_TOKEN_AT_LEAST_CHARGED = 8

INTERRUPTED = "interrupted"


@dataclass(slots=True)
class _Answer:
    """What has come so far."""

    parts: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Usage | None = None

    @property
    def text(self) -> str:
        return "".join(self.parts)


@dataclass(frozen=True, slots=True)
class OpenAiWorker:
    """Streams one chat completion and gathers its text.

    Result: `{text, model, finishReason, usage: {inputTokens, outputTokens, metered}}`. `metered` is `usage`
    when the server counted, which is the rule, or `text` when it did not: then one token is charged per 8
    bytes of UTF-8 of question and answer, about half of what tokenizers count, so that nobody pays more than
    the server would have said. A run that produced text and then broke is complete with the finish reason
    `interrupted`, charged for that text; one without any text is a failure. Only a run without text is tried
    again.
    """

    session: aiohttp.ClientSession
    api_key: str | None = field(default=None, repr=False)
    retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S
    max_answer_bytes: int = MAX_ANSWER_BYTES

    async def run(self, order: WorkOrder) -> Done | WorkFailed:
        if not isinstance(order.work, OpenAiWork):
            raise TypeError(f"{order.work.name} is no openai work")
        tries = 0
        while True:
            tries += 1
            answer = _Answer()
            try:
                refusal = await self._stream(order.work, order.input, answer)
            except TRANSPORT_FAULTS as fault:
                _LOG.warning(
                    "model server lost: %s", type(fault).__name__, extra={"job_id": order.job_id, "try": tries}
                )
                refusal = WorkFailed("The model server could not be reached.")
                if not answer.parts and await pause_before_retry(self.retry_delays_s, tries):
                    continue
            if not answer.parts:
                return refusal or WorkFailed("The model answered with no text.")
            return _completed(order.work, order.input, answer, broken=refusal is not None)

    async def _stream(self, work: OpenAiWork, input: Mapping[str, Any], answer: _Answer) -> WorkFailed | None:
        """Fill in the answer as it comes. None when the stream came to its end."""
        async with self.session.post(
            work.base_url.rstrip("/") + "/chat/completions",
            data=json.dumps(_question(work, input), allow_nan=False).encode(),
            headers=self.headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=work.timeout_s, connect=CONNECT_TIMEOUT_S),
        ) as response:
            if response.status != 200:
                return WorkFailed(f"The model server refused the request (HTTP {response.status}).")
            try:
                await self._gather(response, answer)
            except AnswerTooLong:
                return WorkFailed("The model server answered with too much.")
            except BrokenAnswer:
                return WorkFailed("The model server broke off its answer.")
        return None

    async def _gather(self, response: aiohttp.ClientResponse, answer: _Answer) -> None:
        async for event in chat_events(response, self.max_answer_bytes):
            match event:
                case TextPart(text):
                    answer.parts.append(text)
                case Finish(reason):
                    answer.finish_reason = reason
                case Usage():
                    answer.usage = event

    @property
    def headers(self) -> dict[str, str]:
        """Of each question to the model's server. Holds its key."""
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        return headers | ({"Authorization": f"Bearer {self.api_key}"} if self.api_key else {})


def _question(work: OpenAiWork, input: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": work.model,
        "messages": chat_messages(input),
        "max_tokens": output_tokens_at_most(input, work.price.max_output_tokens),
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _completed(work: OpenAiWork, input: Mapping[str, Any], answer: _Answer, *, broken: bool) -> Done:
    usage = answer.usage or _usage_by_text(chat_messages(input), answer.text)
    text = answer.text if text_fault(answer.text) is None else storable(answer.text)
    result = {
        "text": text,
        "model": work.model,
        "finishReason": INTERRUPTED if broken else answer.finish_reason or "stop",
        "usage": {
            "inputTokens": usage.input_tokens,
            "outputTokens": usage.output_tokens,
            "metered": "usage" if answer.usage else "text",
        },
    }
    return Done(result, token_cost_sats(work.price, usage.input_tokens, usage.output_tokens))


def _usage_by_text(messages: Sequence[Mapping[str, str]], text: str) -> Usage:
    asked = sum(len(message["content"].encode()) for message in messages)
    answered = len(text.encode(errors="replace"))
    return Usage(-(-asked // BYTES_PER_TOKEN_AT_LEAST_CHARGED), -(-answered // BYTES_PER_TOKEN_AT_LEAST_CHARGED))
