"""Crash points: each suspension of a money coroutine, counted from outside. No hook stands in product code.

A coroutine can lose its process only where it waits (between two waits nothing outside can change by it that was
not asked for at the last one). So each time a wrapped coroutine, or whatever it awaits, yields to the event loop,
that is one numbered point: the n-th suspension of one call. `name:n` in the file `CRASH_AT_FILE` makes the
process SIGKILL itself there; every point that is passed is written to `CRASH_SEEN_FILE`.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

AT_FILE = "CRASH_AT_FILE"
SEEN_FILE = "CRASH_SEEN_FILE"
WALK = "CRASH_WALK"
"""Names the coroutines that are wrapped: a key of WALKS."""
MONEY = {
    "sale": ("gateway.api.jobs", "buy"),
    "sale_group": ("ledger.groups", "Groups._once"),
    "plain_sale": ("gateway.jobs.create", "sell_plain"),
    "settle": ("gateway.jobs.settle", "settle"),
    "settle_group": ("gateway.jobs.settle_group", "settle_group"),
    "open_group": ("gateway.jobs.create", "store_opened"),
    "begin_runs": ("gateway.jobs.finish", "begin_runs"),
    "complete": ("gateway.jobs.finish", "complete"),
    "complete_group": ("gateway.jobs.finish_group", "complete_group"),
    "fail": ("gateway.jobs.finish", "fail"),
    "on_file": ("gateway.refunds.on_file", "OnFile._claim"),
    "claim": ("gateway.refunds.claim", "claim"),
    "first_claim": ("gateway.refunds.claim_first", "claim_seen"),
    "advance": ("gateway.refunds.executor", "RefundExecutor.advance"),
    "send_group": ("gateway.refunds.sends", "count_sends"),
    "paid_group": ("gateway.refunds.arrivals", "record_arrived"),
}
SESSIONS = {
    "begin": ("gateway.sessions.request", "begin"),
    "end": ("gateway.sessions.request", "end"),
    "close": ("gateway.sessions.close", "close"),
    "finish": ("gateway.sessions.close", "finish"),
}
LOOKS = {
    "begin_look": ("gateway.jobs.evaluate", "begin"),
    "accept": ("gateway.jobs.evaluate", "accept"),
    "open": ("gateway.jobs.evaluate", "open_work_invoice"),
    "reject": ("gateway.jobs.evaluate", "reject"),
    "fail_look": ("gateway.jobs.evaluate", "fail"),
}
WALKS = {"jobs": MONEY, "sessions": SESSIONS, "looks": LOOKS}


class Counted(Awaitable[Any]):
    """Drives a coroutine and tells of each of its suspensions, before it happens."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], suspended: Callable[[int], None]) -> None:
        self._coroutine, self._suspended = coroutine, suspended

    def __await__(self) -> Generator[Any, Any, Any]:
        count, value, error = 0, None, None
        while True:
            try:
                waits_for = self._coroutine.send(value) if error is None else self._coroutine.throw(error)
            except StopIteration as end:
                return end.value
            count += 1
            self._suspended(count)
            value, error = None, None
            try:
                value = yield waits_for
            except BaseException as thrown:  # noqa: BLE001 - passed on, cancellation too
                error = thrown


def point_reached(name: str, count: int) -> None:
    """Dies here if it was told to."""
    at, seen = Path(os.environ[AT_FILE]), Path(os.environ[SEEN_FILE])
    with seen.open("a") as file:
        file.write(f"{name}:{count}\n")
    if at.exists() and at.read_text() == f"{name}:{count}":
        os.kill(os.getpid(), signal.SIGKILL)


def counted(name: str, function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await Counted(function(*args, **kwargs), functools.partial(point_reached, name))

    return call


def points_seen(seen: Path) -> dict[str, int]:
    """The highest point that each coroutine passed."""
    highest: dict[str, int] = {}
    for line in seen.read_text().split():
        name, _, count = line.partition(":")
        highest[name] = max(highest.get(name, 0), int(count))
    return highest


def wrap_all() -> None:
    """Wrap the money coroutines of this walk wherever they were imported to."""
    for name, (module, path) in WALKS[os.environ[WALK]].items():
        *owner, attribute = path.split(".")
        holder = functools.reduce(getattr, owner, sys.modules[module])
        original = getattr(holder, attribute)
        wrapped = counted(name, original)
        setattr(holder, attribute, wrapped)
        for other in [m for n, m in sys.modules.items() if n.startswith("gateway")]:
            for key, value in list(vars(other).items()):
                if value is original:
                    setattr(other, key, wrapped)
