"""`/operator/plots`: the last days as bars and as a line. Drawn here as SVG: no script, no library, no foreign host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from aiohttp import web

from gateway.context import GATEWAY
from gateway.pages.operator.access import show
from ledger import book, sql
from ledger.money import whole_sats
from ledger.transfers import POOL, POOL_RESERVED

_q = sql.load("gateway.pages.operator", "operator.sql")

DAYS = 30
WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 960, 300, 104, 44, 36, 26


@dataclass(frozen=True, slots=True)
class Mark:
    """A bar (from the zero line) or a point of a line, in the drawing's units; `words` is what it says."""

    x: float
    y: float
    width: float
    height: float
    words: str


@dataclass(frozen=True, slots=True)
class Plot:
    title: str
    kind: str
    marks: tuple[Mark, ...]
    """Of a line: its points."""
    grid: tuple[tuple[float, str], ...]
    """Heights of the lines behind it, and what they are worth."""
    days: tuple[tuple[float, str], ...]
    zero_y: float
    rows: tuple[tuple[date, int], ...]
    """The same as a table."""

    @property
    def points(self) -> str:
        return " ".join(f"{mark.x:.1f},{mark.y:.1f}" for mark in self.marks)


async def page(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    async with gateway.pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        rows = await conn.fetch(_q.days, DAYS)
        kept = await book.kept_balances(conn, (POOL, POOL_RESERVED))
    days = [row["day"] for row in rows]
    pool = at_day_ends(sum(kept.values()), [row["pool_msat"] for row in rows])
    plots = (
        plot("Revenue a day", "bars", days, [_sats(row["revenue_msat"]) for row in rows]),
        plot("Refunds paid a day", "bars", days, [_sats(row["refunds_msat"]) for row in rows]),
        plot("The free pool at the end of each day", "line", days, [_sats(msat) for msat in pool]),
    )
    context = {"plots": plots, "days": DAYS, "width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT}
    return show(request, "plots.html", context)


def _sats(amount_msat: int) -> int:
    """Towards zero: a part of a sat is no sat."""
    return whole_sats(amount_msat) if amount_msat >= 0 else -whole_sats(-amount_msat)


def at_day_ends(now_msat: int, moved_msat: Sequence[int]) -> list[int]:
    """Balances at the end of each day (the last is now), from what moved on each. Pure."""
    ends = [now_msat]
    for moved in reversed(moved_msat[1:]):
        ends.append(ends[-1] - moved)
    return ends[::-1]


def plot(title: str, kind: str, days: Sequence[date], values: Sequence[int]) -> Plot:
    """One value a day, in sats. Pure."""
    step = nice_step(max(max(values), 0) - min(min(values), 0))
    low, high = min(min(values), 0) // step * step, max(step, -(-max(values) // step) * step)
    room_y, room_x = HEIGHT - TOP - BOTTOM, (WIDTH - LEFT - RIGHT) / len(values)

    def y_of(value: int) -> float:
        return TOP + room_y * (high - value) / (high - low)

    marks = []
    for place, (day, value) in enumerate(zip(days, values, strict=True)):
        words = f"{day:%-d %b}: {value:,} sats"
        if kind == "line":
            marks.append(Mark(LEFT + room_x * (place + 0.5), y_of(value), 0, 0, words))
        else:
            top, foot = sorted((y_of(value), y_of(0)))
            marks.append(Mark(LEFT + room_x * (place + 0.15), top, room_x * 0.7, foot - top, words))
    named = [(LEFT + room_x * (place + 0.5), f"{day:%-d %b}") for place, day in enumerate(days)]
    return Plot(
        title,
        kind,
        tuple(marks),
        tuple((y_of(value), short(value)) for value in range(low, high + 1, step)),
        tuple(named[len(named) - 1 :: -7][::-1]),
        y_of(0),
        tuple(zip(days, values, strict=True))[::-1],
    )


def nice_step(span: int) -> int:
    """1, 2 or 5 times a power of ten, so that four or five lines cover the span. Pure."""
    step = 1
    while True:
        for times in (1, 2, 5):
            if step * times * 5 >= span:
                return step * times
        step *= 10


def short(amount: int) -> str:
    """`1,500` · `20k` · `3M`, for the side of a plot. Pure."""
    for unit, word in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if abs(amount) >= 10 * unit and amount % unit == 0:
            return f"{amount // unit:,}{word}".replace("-", "−")
    return f"{amount:,}".replace("-", "−")
