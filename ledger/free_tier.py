"""The gate's policy as pure functions: who pays how much of an estimate. No I/O, no clock, no randomness.

absorb = min(floor(pool_share × estimate), left today, caps, pool balance); `free` when that is the whole estimate,
`partial` when it is some of it, else `gate`. Amounts are whole sats. Truth table: tests/unit/test_free_tier.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple


class Serve(StrEnum):
    """Who pays: the pool all of it, the pool a part, or the user alone."""

    FREE = "free"
    PARTIAL = "partial"
    GATE = "gate"


class Decision(NamedTuple):
    """`charge_sats + absorb_sats` is always the estimate."""

    serve: Serve
    absorb_sats: int
    charge_sats: int
    reason: str


@dataclass(frozen=True, slots=True)
class Tier:
    """What an identity that has paid and stayed long enough is given; `pool_share` is 0 … 1 of an estimate."""

    name: str
    min_paid_sats: int
    min_days_known: int
    daily_limit_sats: int
    pool_share: Decimal


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator wrote: tiers in rising order, caps a day. None is no cap."""

    tiers: tuple[Tier, ...] = ()
    pool_cap_sats: int | None = None
    address_cap_sats: int | None = None


class Used(NamedTuple):
    """What one identity, one address or the whole pool was given today, and holds reserved of today."""

    absorbed_sats: int = 0
    reserved_sats: int = 0

    @property
    def total_sats(self) -> int:
        return self.absorbed_sats + self.reserved_sats


@dataclass(slots=True)
class Facts:
    """All that the policy looks at. `tier` None: no tier is earned. Not frozen: made for every ask under the locks."""

    tier: Tier | None
    blocked: bool
    identity: Used
    address: Used
    pool: Used
    pool_balance_sats: int
    address_cap_sats: int | None = None
    pool_cap_sats: int | None = None


def tier_of(tiers: Sequence[Tier], *, paid_sats: int, days_known: int, operator_tier: str | None) -> Tier | None:
    """The tier that the operator set, if it (still) exists, else the highest that was earned."""
    earned: Tier | None = None
    for tier in tiers:
        if tier.name == operator_tier:
            return tier
        if paid_sats >= tier.min_paid_sats and days_known >= tier.min_days_known:
            earned = tier
    return earned


def most_absorbable(facts: Facts, estimate_sats: int) -> tuple[int, str]:
    """`(sats, reason)`: the most that the pool pays of this estimate, and what bounds it first."""
    tier = facts.tier
    if facts.blocked:
        return 0, "blocked"
    if tier is None:
        return 0, "no_tier"
    least, reason = int(tier.pool_share * estimate_sats), "tier_share"
    if (left := tier.daily_limit_sats - facts.identity.total_sats) < least:
        least, reason = left, "daily_limit"
    if facts.address_cap_sats is not None and (left := facts.address_cap_sats - facts.address.total_sats) < least:
        least, reason = left, "address_cap"
    if facts.pool_cap_sats is not None and (left := facts.pool_cap_sats - facts.pool.total_sats) < least:
        least, reason = left, "pool_cap"
    if facts.pool_balance_sats < least:
        least, reason = facts.pool_balance_sats, "pool_balance"
    return max(0, least), reason


def decide(facts: Facts, estimate_sats: int) -> Decision:
    """The gate's answer for somebody who showed who they are."""
    absorb_sats, reason = most_absorbable(facts, estimate_sats)
    charge_sats = estimate_sats - absorb_sats
    if charge_sats == 0:
        return Decision(Serve.FREE, absorb_sats, 0, "pool_pays_all")
    serve = Serve.PARTIAL if absorb_sats else Serve.GATE
    return Decision(serve, absorb_sats, charge_sats, reason)


def decide_fee(facts: Facts, fee_sats: int, cap_sats: int) -> Decision:
    """Who pays for a look at the input: the pool all of it for whom work at the catalogue's cap would be free, else
    the user all of it."""
    if fee_sats and decide(facts, cap_sats).serve is Serve.FREE and decide(facts, fee_sats).serve is Serve.FREE:
        return Decision(Serve.FREE, fee_sats, 0, "pool_pays_all")
    return Decision(Serve.GATE, 0, fee_sats, "evaluation_fee")


def decide_without_identity(estimate_sats: int) -> Decision:
    """No identity: `gate`, the user pays the full price."""
    return Decision(Serve.GATE, 0, estimate_sats, "no_identity")


def may_reserve(facts: Facts, estimate_sats: int, absorb_sats: int) -> bool:
    """At payment of a partial job: exactly the advised absorb, or nothing."""
    return 0 < absorb_sats <= most_absorbable(facts, estimate_sats)[0]


def reservable(facts: Facts, estimate_sats: int, most_sats: int) -> int:
    """After a session's request: whatever the pool can still pay of `most_sats`, 0 when nothing."""
    return min(most_sats, most_absorbable(facts, estimate_sats)[0])
