"""Msat and sats: the one type that the book and the node share. Pure; integers only.

The ledger keeps integer msat, the wire speaks integer sats. Prices and costs round up to a sat,
refunds are whole sats and their sub-sat rest stays on its own account. No float touches money.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

Msat = NewType("Msat", int)
"""An amount in millisatoshi. Never negative where it names a sum of money."""

MSAT_PER_SAT = 1000
MAX_SATS = 21_000_000 * 100_000_000
"""No amount on earth is larger: a request above it is absurd and refused."""


def sats_to_msat(amount_sats: int) -> Msat:
    return Msat(amount_sats * MSAT_PER_SAT)


def whole_sats(amount_msat: int) -> int:
    """Sats that fit into the amount, rounded down (refunds)."""
    return amount_msat // MSAT_PER_SAT


def sub_sat_rest(amount_msat: int) -> Msat:
    """What is left of the amount below one sat; Lightning cannot route it back."""
    return Msat(amount_msat % MSAT_PER_SAT)


@dataclass(frozen=True, slots=True)
class Rest:
    """A sum as it is owed back: whole sats, and what Lightning can not carry."""

    refund_sats: int
    sub_sat_msat: Msat


def rest_of(amount_msat: int) -> Rest:
    """All of it."""
    return Rest(whole_sats(amount_msat), sub_sat_rest(amount_msat))
