"""What a work on an input may cost at most. Checked and computed off the event loop: a hostile input takes a while."""

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
    return await asyncio.to_thread(_price, entry, work_input)


def _price(entry: WorkEntry, work_input: Mapping[str, Any]) -> Priced:
    wrong = validate_input(entry, work_input)
    if wrong is not None:
        raise Problem(problems.INVALID_INPUT, f"{wrong.pointer}: {wrong.reason}", {"pointer": wrong.pointer})
    return Priced(entry, work_input, estimate_sats(entry, work_input))
