"""The pure parts of the operator's pages: what covers what, what a plot draws, what an address may ask for."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.metrics import Metrics
from gateway.operator.identities import Change
from gateway.pages.operator.actions import whole_amount
from gateway.pages.operator.lists import LISTINGS, Asked, asked_of
from gateway.pages.operator.overview import unbooked
from gateway.pages.operator.plots import HEIGHT, LEFT, WIDTH, at_day_ends, nice_step, plot, short
from gateway.pages.operator.solvency import cover, solvency
from gateway.problems import Problem

AMOUNTS = st.integers(-(10**16), 10**16)


def test_solvency_is_what_is_left_when_everybody_has_theirs() -> None:
    stands = solvency(
        {
            "node": 100_000,
            "holding": 10_000,
            "available": 5_000,
            "held": 1_000,
            "refunds_payable": 20_000,
            "sub_sat": 500,
            "pool": 7_000,
            "pool_reserved": 3_000,
            "revenue": 999,
        }
    )
    assert (stands.owed_msat, stands.promised_msat, stands.own_msat) == (36_500, 10_000, 53_500)


def test_a_pool_of_capital_leaves_less_than_nothing_of_ones_own() -> None:
    assert solvency({"pool": 7_000}).own_msat == -7_000
    assert solvency({}).own_msat == 0


@pytest.mark.parametrize(
    ("owed", "at_hand", "says"),
    [(10, 10, "covered"), (10, 11, "covered"), (10, 9, "short"), (10, None, "unknown"), (0, None, "unknown")],
)
def test_what_is_unknown_is_neither_covered_nor_short(owed: int, at_hand: int | None, says: str) -> None:
    assert cover(owed, at_hand) == says


def test_before_the_first_sweep_nothing_is_known_of_unbooked_settlements() -> None:
    metrics = Metrics()
    assert unbooked(metrics) is None
    metrics.swept = True
    assert unbooked(metrics) == 0
    metrics.settled_unbooked.set(2)
    assert unbooked(metrics) == 2


def test_the_pools_course_ends_now() -> None:
    assert at_day_ends(100, [999, 30, -20]) == [90, 120, 100]
    assert at_day_ends(100, [5]) == [100]


@given(st.lists(AMOUNTS, min_size=1, max_size=40), st.sampled_from(["bars", "line"]))
def test_a_plot_stays_within_its_drawing(values: list[int], kind: str) -> None:
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(len(values))]
    drawn = plot("x", kind, days, values)
    assert len(drawn.marks) == len(values)
    for mark in drawn.marks:
        assert LEFT <= mark.x <= mark.x + mark.width <= WIDTH
        assert 0 <= mark.y <= mark.y + mark.height <= HEIGHT
    assert 2 <= len(drawn.grid) <= 9
    assert drawn.rows[0] == (days[-1], values[-1])
    assert drawn.days[-1][1] == f"{days[-1]:%-d %b}"


@given(st.integers(0, 10**18))
def test_a_step_covers_its_span_in_five(span: int) -> None:
    step = nice_step(span)
    assert step * 5 >= span
    assert str(step).rstrip("0") in ("1", "2", "5")


@pytest.mark.parametrize(
    ("amount", "word"),
    [(0, "0"), (500, "500"), (1500, "1,500"), (20_000, "20k"), (3_000_000, "3,000k"), (-5000, "−5,000")],
)
def test_amounts_at_the_side(amount: int, word: str) -> None:
    assert short(amount) == word


@pytest.mark.parametrize(("typed", "sats"), [("5", 5), (" 10,000 ", 10_000), ("10 000", 10_000)])
def test_an_amount_as_people_type_it(typed: str, sats: int) -> None:
    assert whole_amount(typed) == sats


@pytest.mark.parametrize("typed", ["", ",", "0", "-1", "1.0", "0x5", "٣", "1\n2"])
def test_what_is_no_amount(typed: str) -> None:
    with pytest.raises(Problem):
        whole_amount(typed)


def test_an_address_says_what_is_asked() -> None:
    jobs = next(listing for listing in LISTINGS if listing.name == "jobs")
    asked = asked_of(jobs, {"state": "failed", "search": " a b ", "after": ""})
    assert asked == Asked("failed", "a b", None)
    assert asked.query(after="x") == "?state=failed&search=a+b&after=x"
    assert Asked().query() == ""
    for wrong in ({"state": "paid"}, {"search": "a\0"}, {"search": "\ud800"}, {"after": "x" * 201}):
        with pytest.raises(Problem):
            asked_of(jobs, wrong)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Change(), "made known"),
        (Change("all", True), "tier: all"),
        (Change(None, True, True, True), "tier: what it earned, blocked"),
        (Change(blocked=False, blocked_given=True), "let in"),
    ],
)
def test_a_change_in_words(change: Change, words: str) -> None:
    assert change.words() == words
