"""What a work on an input may cost at most. What may take a while is checked and computed off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway import problems
from gateway.catalogue import Catalogue, WorkEntry
from gateway.catalogue.estimate import estimate_sats
from gateway.catalogue.schema import validate_input
from gateway.problems import Problem

SMALL_CHARACTERS = 2048
"""An input of this size is priced at once: handing it to a thread would cost more."""


@dataclass(frozen=True, slots=True)
class Priced:
    """An input that can be sold."""

    entry: WorkEntry
    input: Mapping[str, Any]
    estimate_sats: int


async def price(catalogue: Catalogue, work: str, work_input: Mapping[str, Any]) -> Priced:
    """Raises Problem: unknown work, input against its schema."""
    entry = catalogue.find(work)
    if entry is None:
        raise Problem(problems.UNKNOWN_WORK, "See /api/works for what is offered.")
    if entry.is_slow_to_price or len(repr(work_input)) > SMALL_CHARACTERS:
        return await asyncio.to_thread(_price, entry, work_input)
    return _price(entry, work_input)


def _price(entry: WorkEntry, work_input: Mapping[str, Any]) -> Priced:
    wrong = validate_input(entry, work_input)
    if wrong is not None:
        raise Problem(problems.INVALID_INPUT, f"{wrong.pointer}: {wrong.reason}", {"pointer": wrong.pointer})
    return Priced(entry, work_input, estimate_sats(entry, work_input))
