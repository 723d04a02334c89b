"""What routing may cost the gateway: a limit for each refund, and budgets for all of one UTC day. Pure.

A budget per destination counts by the payee's node key, whatever form the destination was given in. Names of
Lightning Addresses cost nothing to make, and one payee given by address, invoice and withdrawal code would have three
budgets; a node that can be reached costs its owner a channel. The wallets of one custodian share a key, and so that
budget; keys behind route hints are cheap again, so the budget of the day bounds them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from ledger.money import Msat, sats_to_msat

LOCK_ID = 0x626F_6C74_6665_6573
"""Of the advisory lock under which fees are granted, one claim after another."""


class FeeBound(StrEnum):
    """Which budget left less than a refund's usual fee limit."""

    DAY = "day"
    DESTINATION = "destination"


@dataclass(frozen=True, slots=True)
class FeeLimit:
    """The larger of a base and a share of the amount, never more than the amount itself; paid by the gateway.

    The budgets bound what all refunds of a UTC day may cost, and those to one payee's node. None: no budget.
    """

    base_sats: int
    percent: Decimal
    per_day_sats: int | None = None
    per_destination_sats: int | None = None

    def msat(self, amount_sats: int) -> int:
        """Of one refund, whatever the budgets say."""
        amount_msat = sats_to_msat(amount_sats)
        return min(amount_msat, max(sats_to_msat(self.base_sats), int(amount_msat * self.percent / 100)))


@dataclass(frozen=True, slots=True)
class FeesToday:
    """What counts against the budgets: the limits of open attempts, the fees of paid ones."""

    all_msat: int
    payee_msat: int


@dataclass(frozen=True, slots=True)
class FeeGrant:
    """`limit_msat` 0: free routes only, as LND reads it. The budgets are those in force, None without one."""

    limit_msat: Msat
    bound: FeeBound | None
    day_budget_msat: Msat | None
    payee_budget_msat: Msat | None


def grant_fee(rule: FeeLimit, amount_sats: int, today: FeesToday) -> FeeGrant:
    """The fee limit of one attempt: the usual one, or what is left of a budget. Truth table: test_refund_fees.py."""
    day_budget, payee_budget = _msat(rule.per_day_sats), _msat(rule.per_destination_sats)
    limits: list[tuple[int, FeeBound | None]] = [(rule.msat(amount_sats), None)]
    if day_budget is not None:
        limits.append((max(0, day_budget - today.all_msat), FeeBound.DAY))
    if payee_budget is not None:
        limits.append((max(0, payee_budget - today.payee_msat), FeeBound.DESTINATION))
    limit_msat, bound = min(limits, key=lambda limit: limit[0])
    return FeeGrant(Msat(limit_msat), bound, day_budget, payee_budget)


def _msat(sats: int | None) -> Msat | None:
    return None if sats is None else sats_to_msat(sats)
