"""The seam between the gateway and whatever does the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from gateway.catalogue.model import WorkEntry

JsonValue: TypeAlias = Any
"""What `json.loads` returns, without NaN and infinities."""


@dataclass(frozen=True, slots=True)
class WorkOrder:
    """One run. `input` passed `validate_input`; `max_cost_sats` is the estimate; `attempt` counts from 1."""

    job_id: str
    work: WorkEntry
    input: Mapping[str, JsonValue]
    max_cost_sats: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Done:
    """`cost_sats` is as metered and may exceed the cap: the caller caps it and books the overrun."""

    result: JsonValue
    cost_sats: int


@dataclass(frozen=True, slots=True)
class WorkFailed:
    """The work did not happen. `reason` is shown to the payer: plain words, no secret, no internal address.

    `by_worker` False: it was not the input's doing, so it is not counted against its buyer.
    """

    reason: str
    by_worker: bool = True


NO_LONGER_OFFERED = WorkFailed("This work is no longer offered.", by_worker=False)


class Worker(Protocol):
    async def run(self, order: WorkOrder) -> Done | WorkFailed:
        """Do the work once. Failure is a value; cancelling stops and cleans up whatever was started."""
        ...
