"""What a work on an input may cost at most. What may take a while is checked and computed in one thread of its own.

A price costs its asker nothing, so all of them together take one thread, and only so many wait for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from gateway import problems
from gateway.catalogue import Catalogue, WorkEntry
from gateway.catalogue.estimate import estimate_sats
from gateway.catalogue.schema import validate_input
from gateway.problems import Problem

SMALL_CHARACTERS = 2048
"""An input of this size is priced at once: handing it to a thread would cost more."""
SLOW_AT_MOST = 64
"""Priced or waiting. Most take milliseconds; when all are as slow as an input can be, the last waits a minute."""

_THREAD = ThreadPoolExecutor(1, thread_name_prefix="price")
_PLACES = threading.BoundedSemaphore(SLOW_AT_MOST)


@dataclass(frozen=True, slots=True)
class Priced:
    """An input that can be sold."""

    entry: WorkEntry
    input: Mapping[str, Any]
    estimate_sats: int


async def price(catalogue: Catalogue, work: str, work_input: Mapping[str, Any]) -> Priced:
    """Raises Problem: unknown work, input against its schema, too many at once."""
    entry = catalogue.find(work)
    if entry is None:
        raise Problem(problems.UNKNOWN_WORK, "See /api/works for what is offered.")
    if entry.is_slow_to_price or len(repr(work_input)) > SMALL_CHARACTERS:
        return await _price_in_turn(entry, work_input)
    return _price(entry, work_input)


async def _price_in_turn(entry: WorkEntry, work_input: Mapping[str, Any]) -> Priced:
    """One after the other. Raises Problem."""
    places = _PLACES
    if not places.acquire(blocking=False):
        detail = "Too many inputs are being priced just now. Try again in a few seconds."
        raise Problem(problems.NOT_READY, detail, headers={"Retry-After": "5"})
    try:
        return await asyncio.get_running_loop().run_in_executor(_THREAD, _price, entry, work_input)
    finally:
        places.release()


def _price(entry: WorkEntry, work_input: Mapping[str, Any]) -> Priced:
    wrong = validate_input(entry, work_input)
    if wrong is not None:
        raise Problem(problems.INVALID_INPUT, f"{wrong.pointer}: {wrong.reason}", {"pointer": wrong.pointer})
    return Priced(entry, work_input, estimate_sats(entry, work_input))
