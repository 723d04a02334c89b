"""The last good rate, kept fresh by one task. A source that falls silent is logged once; a rate that is old is none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from gateway.fiat.rate import BadRate, Rate, is_fresh, public_name
from gateway.fiat.source import NoAnswer, Source, ask, source_of
from gateway.settings import Settings

log = logging.getLogger(__name__)

LEAST_MAX_AGE_S = 900


def max_age_s(settings: Settings) -> int:
    """How old a rate may be and still be shown: as set, else three times its refresh, and a quarter of an hour."""
    if settings.fiat_max_age_s is not None:
        return settings.fiat_max_age_s
    return max(3 * settings.fiat_refresh_s, LEAST_MAX_AGE_S)


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class FiatRate:
    """`source` None: not configured, and there is never a rate."""

    source: Source | None
    refresh_s: int
    max_age_s: int
    now: Callable[[], datetime] = utc_now
    _last: Rate | None = None
    _trouble: str = ""

    @classmethod
    def of(cls, settings: Settings) -> FiatRate:
        return cls(source_of(settings), settings.fiat_refresh_s, max_age_s(settings))

    @property
    def current(self) -> Rate | None:
        """None: unknown, which is not zero."""
        return self._last if self._last is not None and is_fresh(self._last, self.now(), self.max_age_s) else None

    async def run(self, session: aiohttp.ClientSession) -> None:
        """At start and on a timer, for ever; ends at once when there is no source."""
        while self.source is not None:
            await self.refresh(session, self.source)
            await asyncio.sleep(self.refresh_s)

    async def refresh(self, session: aiohttp.ClientSession, source: Source) -> None:
        """Ask once. What goes wrong is logged when it changes, and the last good rate stays."""
        try:
            price = await ask(session, source)
        except (NoAnswer, BadRate) as error:
            self._say(source, str(error))
        else:
            self._last = Rate(source.currency, price, public_name(source.host), self.now())
            self._say(source, "")

    def _say(self, source: Source, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.warning("the source of fiat prices, %s: %s", source.host, trouble)
        elif self._trouble and not trouble:
            log.info("the source of fiat prices, %s, answers again", source.host)
        self._trouble = trouble
