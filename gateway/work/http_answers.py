"""Reading another server's answer with a bounded appetite, and which faults of the way are worth another try."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp

TRANSPORT_FAULTS = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError)
"""The request may not have arrived, or the answer was lost on the way."""

RETRY_DELAYS_S = (0.5, 1.5, 4.0)
"""Pauses before the second, third and fourth attempt."""


class AnswerTooLong(Exception):
    """The answer has more bytes than are accepted."""


async def read_bounded(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The whole body. Raises AnswerTooLong as soon as it is longer than `max_bytes`."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise AnswerTooLong
    return bytes(body)


def strict_json(body: bytes) -> Any:
    """The JSON value; ValueError for anything else, NaN, infinities and absurd nesting included."""
    try:
        return json.loads(body.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


async def pause_before_retry(delays_s: tuple[float, ...], attempt: int) -> bool:
    """Wait before the next attempt (`attempt` were made); False when there is none left."""
    if attempt > len(delays_s):
        return False
    await asyncio.sleep(delays_s[attempt - 1])
    return True
