"""The pure parts of the operator's pages: what covers what, what an address may ask for."""

from __future__ import annotations

import pytest

from gateway.metrics import Metrics
from gateway.operator.identities import Change
from gateway.pages.operator.actions import whole_amount
from gateway.pages.operator.lists import LISTINGS, Asked, asked_of
from gateway.pages.operator.overview import unbooked
from gateway.pages.operator.plots import at_day_ends
from gateway.pages.operator.solvency import cover, solvency
from gateway.problems import Problem


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
