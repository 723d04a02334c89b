"""`/operator/plots`: the last days as bars and as a line, each an image of its own, and the same as a table."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from time import monotonic

from aiohttp import web

from gateway.context import GATEWAY
from gateway.pages.operator.access import show
from gateway.pages.operator.drawing import NARROW, WIDE, Kind, Series, draw
from ledger import book, sql
from ledger.database import Pool
from ledger.money import whole_sats
from ledger.transfers import POOL, POOL_RESERVED

_q = sql.load("gateway.pages.operator", "operator.sql")

DAYS = 30
KEPT_S = 10.0
"""The images of a page are drawn from what the page itself read: one look at the book, and the same figures."""

IMAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}


@dataclass(frozen=True, slots=True)
class Plot:
    """`name` stands in the image's address."""

    name: str
    series: Series

    @property
    def rows(self) -> list[tuple[date, int]]:
        """The same as a table, the newest first."""
        return list(zip(self.series.days, self.series.values, strict=True))[::-1]

    @property
    def alt(self) -> str:
        """What the image shows, for who does not see it."""
        return in_words(self.series)


@dataclass(slots=True)
class Readings:
    """The last reading of the book, and when it was made."""

    plots: tuple[Plot, ...] = ()
    at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


READINGS: web.AppKey[Readings] = web.AppKey("operator_plots", Readings)


async def page(request: web.Request) -> web.Response:
    context = {"plots": await _read(request, 0.0), "days": DAYS, "wide": WIDE, "narrow": NARROW}
    return show(request, "plots.html", context)


async def image(request: web.Request) -> web.Response:
    """`/operator/plots/{name}.svg`, and with `?narrow` for a phone. 404: there is no such plot."""
    plots = {plot.name: plot for plot in await _read(request, KEPT_S)}
    plot = plots.get(request.match_info["name"])
    if plot is None:
        raise web.HTTPNotFound
    drawn = await asyncio.to_thread(draw, plot.series, NARROW if "narrow" in request.query else WIDE)
    return web.Response(body=drawn, content_type="image/svg+xml", charset="utf-8", headers=IMAGE_HEADERS)


async def _read(request: web.Request, kept_s: float) -> tuple[Plot, ...]:
    """What the book says, or said within the last `kept_s`. One look at a time: it sums a month."""
    readings = request.app[READINGS]
    async with readings.lock:
        if not readings.plots or monotonic() - readings.at >= kept_s:
            readings.plots, readings.at = await read_plots(request.app[GATEWAY].pool), monotonic()
        return readings.plots


async def read_plots(pool: Pool) -> tuple[Plot, ...]:
    """As of one moment."""
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        rows = await conn.fetch(_q.days, DAYS)
        kept = await book.kept_balances(conn, (POOL, POOL_RESERVED))
    days = [row["day"] for row in rows]
    pool_msat = at_day_ends(sum(kept.values()), [row["pool_msat"] for row in rows])

    def plot(name: str, title: str, kind: Kind, unit: str, values: list[int]) -> Plot:
        return Plot(name, Series(title, kind, unit, days, values))

    return (
        plot("revenue", "Revenue a day", "bars", "sats", [_sats(row["revenue_msat"]) for row in rows]),
        plot("jobs", "Jobs done and paid for a day", "bars", "jobs", [row["jobs"] for row in rows]),
        plot("refunds", "Refunds paid a day", "bars", "sats", [_sats(row["refunds_msat"]) for row in rows]),
        plot("pool", "The free pool at the end of each day", "line", "sats", [_sats(msat) for msat in pool_msat]),
    )


def _sats(amount_msat: int) -> int:
    """Towards zero: a part of a sat is no sat."""
    return whole_sats(amount_msat) if amount_msat >= 0 else -whole_sats(-amount_msat)


def at_day_ends(now_msat: int, moved_msat: Sequence[int]) -> list[int]:
    """Balances at the end of each day (the last is now), from what moved on each. Pure."""
    ends = [now_msat]
    for moved in reversed(moved_msat[1:]):
        ends.append(ends[-1] - moved)
    return ends[::-1]


def in_words(series: Series) -> str:
    """A sentence or two. Pure."""
    days, values, unit = series.days, series.values, series.unit
    if not any(values):
        return f"{series.title}: none in {len(days)} days."
    high, low = max(values), min(values)
    peak = f"most {high:,} {unit} on {days[values.index(high)]:%-d %B}"
    if series.kind == "line":
        least = f"least {low:,} {unit} on {days[values.index(low)]:%-d %B}"
        return f"{series.title}: from {values[0]:,} to {values[-1]:,} {unit} in {len(days)} days; {peak}, {least}."
    return f"{series.title}: {sum(values):,} {unit} in {len(days)} days; {peak}, {values[-1]:,} today."
