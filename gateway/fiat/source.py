"""Asking the operator's own source. It may be private and plain http; nothing that it says is followed."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlsplit

import aiohttp

from gateway.fiat.rate import BadRate, rate_in
from gateway.settings import Settings
from gateway.work.http_answers import AnswerTooLong, read_bounded

MAX_BYTES = 256 * 1024
TIMEOUT_S = 10.0


class NoAnswer(Exception):
    """The source gave nothing to read. `str()` is plain words, without the address: it may hold a key."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the price of one bitcoin in `currency` is asked for, and where in the answer it stands."""

    currency: str
    url: str
    pointer: str
    timeout_s: float = TIMEOUT_S

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""


def source_of(settings: Settings) -> Source | None:
    """None: not configured, nothing is ever asked."""
    if settings.fiat_currency is None or settings.fiat_url is None or settings.fiat_pointer is None:
        return None
    return Source(settings.fiat_currency, settings.fiat_url.get_secret_value(), settings.fiat_pointer)


async def ask(session: aiohttp.ClientSession, source: Source) -> Decimal:
    """The price of one bitcoin now. Raises NoAnswer, BadRate."""
    timeout = aiohttp.ClientTimeout(total=source.timeout_s)
    headers = {"Accept": "application/json"}
    try:
        async with session.get(source.url, timeout=timeout, headers=headers, allow_redirects=False) as answer:
            if answer.status != 200:
                raise NoAnswer(f"It answered with status {answer.status}.")
            body = await read_bounded(answer, MAX_BYTES)
    except AnswerTooLong:
        raise BadRate("Its answer is too long.") from None
    except TimeoutError:
        raise NoAnswer("It did not answer in time.") from None
    except (aiohttp.ClientError, OSError, ValueError):
        raise NoAnswer("It can not be reached.") from None
    return rate_in(body, source.pointer)
