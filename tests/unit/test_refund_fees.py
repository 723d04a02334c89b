"""Truth table of the fee limit that an attempt is granted, and of the cap on what is in flight."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from gateway.refunds.decisions import FEE_BUDGET_WORDS, WORDS, AddressAsked, GiveUp, may_join_flight, next_step
from gateway.refunds.fees import FeeBound, FeeLimit, FeesToday, grant_fee
from lightning.types import Failed, FailureReason
from tests.unit.test_refund_decisions import JUST_EXPIRED, NOW, SENT

RULE = FeeLimit(10, Decimal(1), per_day_sats=100, per_destination_sats=30)
NOTHING = FeesToday(0, 0)


@pytest.mark.parametrize(
    ("amount_sats", "today", "limit_msat", "bound"),
    [
        # nothing was spent: the usual limit, the larger of 10 sats and 1 %, never more than the refund
        (70, NOTHING, 10_000, None),
        (2000, NOTHING, 20_000, None),
        (3, NOTHING, 3_000, None),
        # what is left of a budget, the smaller one
        (70, FeesToday(95_000, 0), 5_000, FeeBound.DAY),
        (70, FeesToday(29_000, 29_000), 1_000, FeeBound.DESTINATION),
        (70, FeesToday(99_500, 29_000), 500, FeeBound.DAY),
        # exactly enough is no bound
        (70, FeesToday(90_000, 20_000), 10_000, None),
        # used up, or over it since a budget was lowered: free routes only
        (70, FeesToday(100_000, 0), 0, FeeBound.DAY),
        (70, FeesToday(30_000, 30_000), 0, FeeBound.DESTINATION),
        (70, FeesToday(500_000, 500_000), 0, FeeBound.DAY),
        # one refund may not take more than a budget
        (100_000, NOTHING, 30_000, FeeBound.DESTINATION),
    ],
)
def test_a_fee_is_granted_from_what_is_left(
    amount_sats: int, today: FeesToday, limit_msat: int, bound: FeeBound | None
) -> None:
    grant = grant_fee(RULE, amount_sats, today)
    assert (grant.limit_msat, grant.bound) == (limit_msat, bound)
    assert (grant.day_budget_msat, grant.payee_budget_msat) == (100_000, 30_000)


def test_without_budgets_nothing_bounds() -> None:
    grant = grant_fee(FeeLimit(10, Decimal(1)), 70, FeesToday(10**9, 10**9))
    assert (grant.limit_msat, grant.bound, grant.day_budget_msat, grant.payee_budget_msat) == (10_000, None, None, None)


@pytest.mark.parametrize("bound", list(FeeBound))
def test_no_route_within_what_is_left_says_that_the_budget_is_used_up(bound: FeeBound) -> None:
    facts = replace(SENT, expires_at=JUST_EXPIRED, fee_bound=bound)
    assert next_step(facts, Failed(FailureReason.NO_ROUTE, 9), NOW) == GiveUp(
        FEE_BUDGET_WORDS[bound], AddressAsked.TOMORROW
    )
    refused = next_step(facts, Failed(FailureReason.INCORRECT_PAYMENT_DETAILS, 9), NOW)
    assert refused == GiveUp(WORDS[FailureReason.INCORRECT_PAYMENT_DETAILS])


@pytest.mark.parametrize(
    ("amount_sats", "in_flight_sats", "may"),
    [
        *((10, 0, True), (10, 90, True), (10, 91, False), (100, 0, True), (100, 1, False)),
        *((500, 0, True), (500, 100, True), (500, 101, False), (500, 500, False), (1, 500, False)),
    ],
)
def test_what_is_in_flight_is_capped(amount_sats: int, in_flight_sats: int, may: bool) -> None:
    """What is larger than the cap goes beside what keeps within it, and waits for another such."""
    assert may_join_flight(amount_sats, in_flight_sats, cap_sats=100) is may
