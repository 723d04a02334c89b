"""The gate's answer as a value. Pure: no I/O, no clock, no randomness.

This release sells to payers without an identity, and for those the rule is final: the pool pays nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Serve(StrEnum):
    """Who pays: the pool all of it, the pool a part, or the user alone."""

    FREE = "free"
    PARTIAL = "partial"
    GATE = "gate"


@dataclass(frozen=True, slots=True)
class Decision:
    """`charge_sats + absorb_sats` is always the estimate."""

    serve: Serve
    absorb_sats: int
    charge_sats: int
    reason: str


def decide_without_identity(estimate_sats: int) -> Decision:
    """No identity: `gate`, the user pays the full price."""
    return Decision(Serve.GATE, 0, estimate_sats, "no_identity")
