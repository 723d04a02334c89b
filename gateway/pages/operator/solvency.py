"""Whether what is there covers what is owed. Pure; what is unknown stays unknown, and is never read as zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ledger.money import Msat

Cover = Literal["covered", "short", "unknown"]

OWED = (
    ("refunds_payable", "Refunds payable"),
    ("available", "Sessions: can be spent"),
    ("held", "Sessions: held for running requests"),
    ("holding", "Held for jobs"),
    ("sub_sat", "Rests below a sat"),
)
PROMISED = (("pool", "Free pool: can be given"), ("pool_reserved", "Free pool: set aside"))


@dataclass(frozen=True, slots=True)
class Solvency:
    """From the book, in msat. `own`: what is left of the node's sats when everybody has got theirs (may be negative:
    the pool was given more than was earned, from money that stands outside this book)."""

    assets_msat: Msat
    owed: tuple[tuple[str, Msat], ...]
    promised: tuple[tuple[str, Msat], ...]

    @property
    def owed_msat(self) -> Msat:
        return Msat(sum(msat for _, msat in self.owed))

    @property
    def promised_msat(self) -> Msat:
        return Msat(sum(msat for _, msat in self.promised))

    @property
    def own_msat(self) -> Msat:
        return Msat(self.assets_msat - self.owed_msat - self.promised_msat)


def solvency(balances: Mapping[str, int]) -> Solvency:
    """Of the book's balances on their normal side; an account that does not exist yet holds nothing."""
    return Solvency(
        Msat(balances.get("node", 0)),
        tuple((label, Msat(balances.get(code, 0))) for code, label in OWED),
        tuple((label, Msat(balances.get(code, 0))) for code, label in PROMISED),
    )


def cover(owed_msat: int, at_hand_msat: int | None) -> Cover:
    """Owed sats against what the node really has."""
    if at_hand_msat is None:
        return "unknown"
    return "covered" if at_hand_msat >= owed_msat else "short"
