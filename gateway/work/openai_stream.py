"""The streaming answer of an OpenAI-compatible server, read as it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from gateway.work.http_answers import AnswerTooLong, read_bounded, strict_json

MAX_LINE_BYTES = 1024 * 1024
_MAX_TOKENS = 2**40


@dataclass(frozen=True, slots=True)
class TextPart:
    """The next piece of the answer, never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Why the model stopped: `stop`, `length`, …"""

    reason: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the server counted them."""

    input_tokens: int
    output_tokens: int


ChatEvent = TextPart | Finish | Usage


class BrokenAnswer(Exception):
    """What came is no chat completion, or the server reported an error in mid-stream."""


async def chat_events(response: aiohttp.ClientResponse, max_bytes: int) -> AsyncIterator[ChatEvent]:
    """What the server says, in order. A server that does not stream is read as one large part.

    Raises BrokenAnswer, AnswerTooLong, and aiohttp's transport faults.
    """
    if response.content_type == "application/json":
        for event in _events_of(parsed(await read_bounded(response, max_bytes))):
            yield event
        return
    async for data in data_lines(response, max_bytes):
        if data == b"[DONE]":
            return
        for event in _events_of(parsed(data)):
            yield event


async def data_lines(response: aiohttp.ClientResponse, max_bytes: int) -> AsyncIterator[bytes]:
    """The payloads of `data:` lines. Other fields, comments and blank lines say nothing here."""
    left = max_bytes
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk[:left]).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
        left -= len(chunk)
        if left < 0 or len(rest) > MAX_LINE_BYTES:
            raise AnswerTooLong
    if rest.startswith(b"data:"):
        yield rest[5:].strip()


def parsed(data: bytes) -> dict[str, Any]:
    """Raises BrokenAnswer."""
    try:
        value = strict_json(data)
    except ValueError:
        raise BrokenAnswer("no JSON") from None
    if not isinstance(value, dict):
        raise BrokenAnswer("no object")
    if value.get("error"):
        raise BrokenAnswer("the server reports an error")
    return value


def _events_of(value: dict[str, Any]) -> list[ChatEvent]:
    events: list[ChatEvent] = []
    choices = value.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        choice = choices[0]
        part = choice.get("delta") or choice.get("message")
        text = part.get("content") if isinstance(part, dict) else None
        if isinstance(text, str) and text:
            events.append(TextPart(text))
        if isinstance(choice.get("finish_reason"), str):
            events.append(Finish(storable(choice["finish_reason"][:40])))
    if usage := usage_of(value.get("usage")):
        events.append(usage)
    return events


def storable(text: str) -> str:
    """What PostgreSQL and JSON can not keep is replaced."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def usage_of(value: Any) -> Usage | None:
    """None: the server did not count."""
    if not isinstance(value, dict):
        return None
    counts = [value.get(name) for name in ("prompt_tokens", "completion_tokens")]
    tokens = [count for count in counts if type(count) is int and 0 <= count <= _MAX_TOKENS]
    return Usage(*tokens) if len(tokens) == 2 else None
