"""The chaos harness itself: its plan comes from the seed, and its tally finds what is wrong."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lightning.fake import FakeNode
from tests.chaos.load import Shopper
from tests.chaos.plan import TARGETS, Order, faults, order
from tests.chaos.tally import PayersLists, tally

NOTHING = PayersLists({}, {}, frozenset())
CLAIM, OTHER_CLAIM = b"c" * 32, b"d" * 32


def test_the_same_seed_gives_the_same_faults_and_orders() -> None:
    assert faults(7, 100) == faults(7, 100) != faults(8, 100)
    assert [order(7, n) for n in range(50)] == [order(7, n) for n in range(50)]


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    assert faults(3, 600)[: len(faults(3, 60))] == faults(3, 60)


@pytest.mark.parametrize("seed", range(20))
def test_each_target_is_killed_once_before_anything_happens_again(seed: int) -> None:
    first = faults(seed, 100)[: len(TARGETS)]
    assert {fault.target for fault in first} == set(TARGETS)
    assert {fault.does for fault in first} == {"kill"}


def bought(state: str = "complete", cost_sats: int = 30, refund_sats: int = 70) -> Shopper:
    """A whole-price job over 100 sats."""
    request = FakeNode().foreign_invoice(100_000)
    placed = Order(1, "whole", "exact", cost_sats, 0, 0)
    shopper = Shopper(cast(Any, SimpleNamespace()), placed, {"invoice": {"paymentRequest": request}})
    shopper.seen = {"state": state, "refundState": "paid", "refundAmountSats": refund_sats}
    shopper.claims = [CLAIM, OTHER_CLAIM]
    return shopper


def lists(shopper: Shopper, paid_msat: int = 100_000, **more: Any) -> PayersLists:
    from lightning.bolt11 import read

    right = PayersLists({read(shopper.request).payment_hash: paid_msat}, {CLAIM: 70_000}, frozenset())
    return replace(right, **more)


def test_what_was_not_used_came_back_once() -> None:
    shopper = bought()
    result = tally([shopper], NOTHING, lists(shopper))
    assert result.differences == []
    assert (result.paid_msat, result.charged_msat, result.refunded_msat, result.refunds) == (100_000, 30_000, 70_000, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"received": {}},
        {"received": {CLAIM: 69_000}},
        {"received": {CLAIM: 70_000, OTHER_CLAIM: 70_000}},
        {"received": {CLAIM: 35_000, OTHER_CLAIM: 35_000}},
        {"received": {CLAIM: 70_000, b"e" * 32: 1_000}},
        {"paid": {}},
        {"unfinished": frozenset({CLAIM})},
    ],
    ids=["nothing", "too little", "twice", "in two parts", "a stranger's", "for nothing", "still held"],
)
def test_whatever_else_came_back_is_a_difference(wrong: dict[str, Any]) -> None:
    shopper = bought()
    assert tally([shopper], NOTHING, lists(shopper, **wrong)).differences != []


def test_what_lies_in_a_lost_channel_may_be_missing_but_never_too_much() -> None:
    shopper = bought()
    shopper.stuck = True
    waits = lists(shopper, received={}, unfinished=frozenset({CLAIM}))
    assert (tally([shopper], NOTHING, waits).differences, tally([shopper], NOTHING, waits).stuck) == ([], 1)
    too_much = lists(shopper, received={CLAIM: 70_000, OTHER_CLAIM: 70_000})
    assert tally([shopper], NOTHING, too_much).differences != []


def test_the_job_must_say_what_came_back() -> None:
    shopper = bought(refund_sats=60)
    assert tally([shopper], NOTHING, lists(shopper)).differences != []


def test_work_that_fails_is_never_complete() -> None:
    shopper = bought()
    shopper.order = replace(shopper.order, kind="failing")
    assert tally([shopper], NOTHING, lists(shopper)).differences != []
