"""Truth tables of what happens to a session and to its money."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.problems import Problem
from gateway.sessions.decisions import (
    Cost,
    Credit,
    Hold,
    Missing,
    OnSettlement,
    SessionState,
    lowest_cap,
    on_request,
    on_settlement,
    on_work_done,
)
from gateway.sessions.request import refuse_inactive
from ledger.free_tier import Decision, Serve
from ledger.money import Msat, Rest, rest_of

FREE = Decision(Serve.FREE, 100, 0, "")
PARTIAL = Decision(Serve.PARTIAL, 40, 60, "")
GATE = Decision(Serve.GATE, 0, 100, "")


@pytest.mark.parametrize(
    ("state", "paid_msat", "meaning"),
    [
        (SessionState.AWAITING_DEPOSIT, 5000, Credit(activates=True)),
        (SessionState.ACTIVE, 5000, Credit(activates=False)),
        (SessionState.CLOSING, 5000, Credit(activates=False)),
        (SessionState.CLOSED, 5000, Rest(5, Msat(0))),
        (SessionState.CLOSED, 5001, Rest(5, Msat(1))),
        (SessionState.EXPIRED, 999, Rest(0, Msat(999))),
    ],
)
def test_a_settlement_is_credited_or_owed_back(state: SessionState, paid_msat: int, meaning: OnSettlement) -> None:
    assert on_settlement(state, paid_msat) == meaning


def test_every_state_knows_what_a_settlement_means() -> None:
    assert all(isinstance(on_settlement(state, 1000), Credit | Rest) for state in SessionState)


@pytest.mark.parametrize(
    ("decision", "balance_sats", "answer"),
    [
        (FREE, 0, Hold(0)),
        (FREE, 500, Hold(0)),
        (PARTIAL, 100, Hold(100)),
        (PARTIAL, 99, Missing(1)),
        (PARTIAL, 60, Missing(40)),
        (GATE, 100, Hold(100)),
        (GATE, 101, Hold(100)),
        (GATE, 99, Missing(1)),
        (GATE, 0, Missing(100)),
    ],
)
def test_the_full_estimate_is_held_or_nothing_runs(
    decision: Decision, balance_sats: int, answer: Hold | Missing
) -> None:
    assert on_request(decision, 100, balance_sats) == answer


@pytest.mark.parametrize(
    ("absorb", "metered", "cost"),
    [
        (0, 0, Cost(0, 0, 0)),
        (0, 60, Cost(60, 0, 0)),
        (0, 130, Cost(100, 30, 0)),
        (40, 30, Cost(30, 0, 30)),
        (40, 40, Cost(40, 0, 40)),
        (40, 41, Cost(41, 0, 40)),
        (40, 130, Cost(100, 30, 40)),
        (100, 60, Cost(60, 0, 60)),
        (100, 130, Cost(100, 30, 100)),
    ],
)
def test_the_cost_is_capped_and_the_pool_pays_at_most_its_advice(absorb: int, metered: int, cost: Cost) -> None:
    assert on_work_done(estimate_sats=100, absorb_sats=absorb, metered_sats=metered) == cost


@given(estimate=st.integers(1, 10**6), absorb=st.integers(0, 10**6), metered=st.integers(0, 10**7))
def test_no_sat_of_a_cost_is_lost(estimate: int, absorb: int, metered: int) -> None:
    cost = on_work_done(estimate_sats=estimate, absorb_sats=absorb, metered_sats=metered)
    assert cost.actual_sats + cost.overrun_sats == metered
    assert 0 <= cost.grant_wanted_sats <= cost.actual_sats <= estimate


@given(st.integers(0, 10**15))
def test_a_balance_is_owed_back_to_the_msat(balance_msat: int) -> None:
    rest = rest_of(balance_msat)
    assert rest.refund_sats * 1000 + rest.sub_sat_msat == balance_msat
    assert rest.sub_sat_msat < 1000


@pytest.mark.parametrize(
    ("caps", "lowest"), [((None, None), None), ((5, None), 5), ((None, 5), 5), ((5, 3), 3), ((0, 3), 0)]
)
def test_of_two_caps_the_lower_one_holds(caps: tuple[int | None, int | None], lowest: int | None) -> None:
    assert lowest_cap(*caps) == lowest


@pytest.mark.parametrize("state", [state for state in SessionState if state is not SessionState.ACTIVE])
def test_only_an_active_session_is_used(state: SessionState) -> None:
    refuse_inactive(SessionState.ACTIVE)
    with pytest.raises(Problem):
        refuse_inactive(state)
