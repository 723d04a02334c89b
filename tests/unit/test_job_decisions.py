"""Truth tables of what happens to a job and its money."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jobs.decisions import (
    Begin,
    JobState,
    Purpose,
    RefundState,
    Stage,
    on_evaluated,
    on_settlement,
    on_work_done,
    refund_summary,
)
from ledger.money import Rest, rest_of

PENDING, PAYING, PAID = RefundState.PENDING, RefundState.PAYING, RefundState.PAID


FEE, WORK = Purpose.EVALUATION, Purpose.WORK
BEGINS = {
    (WORK, JobState.AWAITING_WORK_PAYMENT): Begin(Stage.WORK),
    (FEE, JobState.AWAITING_EVAL_PAYMENT): Begin(Stage.EVALUATION),
}


@pytest.mark.parametrize("paid_msat", [5000, 7500], ids=["exactly", "overpaid"])
@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("purpose", Purpose)
def test_a_settlement_begins_what_it_pays_for_or_is_owed_back_in_full(
    purpose: Purpose, state: JobState, paid_msat: int
) -> None:
    owed_back = Rest(refund_sats=paid_msat // 1000, sub_sat_msat=paid_msat % 1000)
    assert on_settlement(purpose, state, 5000, paid_msat) == BEGINS.get((purpose, state), owed_back)


@pytest.mark.parametrize(("purpose", "state"), BEGINS)
def test_less_than_the_price_starts_nothing(purpose: Purpose, state: JobState) -> None:
    assert on_settlement(purpose, state, 5000, 4999) == Rest(refund_sats=4, sub_sat_msat=999)


@pytest.mark.parametrize(
    ("fee_sats", "granted", "paid_msat", "expected"),
    [
        (5, False, 5000, (5, 0, 0, 0)),
        (5, False, 6999, (5, 0, 1, 999)),
        (5, True, 0, (0, 5, 0, 0)),
        (0, False, 0, (0, 0, 0, 0)),
    ],
    ids=["paid", "overpaid", "granted", "no fee"],
)
def test_an_answer_keeps_the_fee_and_no_more(
    fee_sats: int, granted: bool, paid_msat: int, expected: tuple[int, int, int, int]
) -> None:
    fee = on_evaluated(fee_sats=fee_sats, granted=granted, paid_msat=paid_msat)
    assert (fee.charged_sats, fee.absorbed_sats, fee.refund_sats, fee.sub_sat_msat) == expected


def test_an_evaluation_that_nobody_paid_for_is_a_fault() -> None:
    with pytest.raises(ValueError, match="not paid for"):
        on_evaluated(fee_sats=5, granted=False, paid_msat=4999)


@pytest.mark.parametrize(
    ("estimate", "reserved", "paid_msat", "metered", "charge", "absorbed", "refund", "rest", "overrun"),
    [
        (10, 0, 10_000, 4, 4, 0, 6, 0, 0),
        (10, 0, 10_000, 10, 10, 0, 0, 0, 0),
        (10, 0, 10_000, 25, 10, 0, 0, 0, 15),
        (10, 0, 10_000, 0, 0, 0, 10, 0, 0),
        (10, 0, 12_345, 4, 4, 0, 8, 345, 0),
        (10, 6, 4_000, 3, 0, 3, 4, 0, 0),
        (10, 6, 4_000, 8, 2, 6, 2, 0, 0),
        (10, 6, 4_000, 99, 4, 6, 0, 0, 89),
        (10, 10, 0, 7, 0, 7, 0, 0, 0),
    ],
)
def test_the_charge_is_the_capped_cost_less_what_the_pool_pays(
    estimate: int,
    reserved: int,
    paid_msat: int,
    metered: int,
    charge: int,
    absorbed: int,
    refund: int,
    rest: int,
    overrun: int,
) -> None:
    done = on_work_done(estimate_sats=estimate, reserved_sats=reserved, paid_msat=paid_msat, metered_sats=metered)
    assert (done.user_charge_sats, done.absorbed_sats, done.refund_sats, done.sub_sat_msat, done.overrun_sats) == (
        charge,
        absorbed,
        refund,
        rest,
        overrun,
    )


@given(
    estimate=st.integers(1, 10**9),
    share=st.integers(0, 10**9),
    over_msat=st.integers(0, 10**12),
    metered=st.integers(0, 10**10),
)
def test_no_sat_vanishes_or_appears(estimate: int, share: int, over_msat: int, metered: int) -> None:
    reserved = min(share, estimate)
    paid_msat = (estimate - reserved) * 1000 + over_msat
    done = on_work_done(estimate_sats=estimate, reserved_sats=reserved, paid_msat=paid_msat, metered_sats=metered)
    assert paid_msat == (done.user_charge_sats + done.refund_sats) * 1000 + done.sub_sat_msat
    assert done.user_charge_sats + done.absorbed_sats == done.actual_cost_sats <= estimate
    assert done.absorbed_sats <= reserved
    assert done.actual_cost_sats + done.overrun_sats == metered
    assert 0 <= done.sub_sat_msat < 1000


def test_failed_work_costs_nothing() -> None:
    assert rest_of(12_345) == Rest(refund_sats=12, sub_sat_msat=345)


@pytest.mark.parametrize(
    ("refunds", "summary"),
    [
        ([], (RefundState.NONE, 0)),
        ([(PENDING, 5)], (PENDING, 5)),
        ([(PENDING, 5), (PAID, 7)], (PENDING, 5)),
        ([(PENDING, 5), (PAYING, 7)], (PAYING, 12)),
        ([(PAYING, 7), (PAID, 1)], (PAYING, 7)),
        ([(PAID, 7), (PAID, 1)], (PAID, 8)),
    ],
)
def test_what_a_job_says_of_its_refunds(
    refunds: list[tuple[RefundState, int]], summary: tuple[RefundState, int]
) -> None:
    assert refund_summary(refunds) == summary
