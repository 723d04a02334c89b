"""The gate's policy: a line per rule, named after it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jobs.slowing import pause_s
from ledger.free_tier import (
    Facts,
    Serve,
    Tier,
    Used,
    decide,
    decide_without_identity,
    may_reserve,
    tier_of,
)

NEW = Tier("new", 0, 0, 0, Decimal(0))
KNOWN = Tier("known", 100, 0, 1000, Decimal("0.5"))
TRUSTED = Tier("trusted", 1000, 7, 5000, Decimal(1))
TIERS = (NEW, KNOWN, TRUSTED)
RICH = Facts(TRUSTED, False, Used(), Used(), Used(), pool_balance_sats=100_000)


@pytest.mark.parametrize(
    ("rule", "changed", "estimate", "serve", "absorb", "reason"),
    [
        ("the pool pays all", {}, 100, Serve.FREE, 100, "pool_pays_all"),
        ("the tier's share, rounded down", {"tier": KNOWN}, 101, Serve.PARTIAL, 50, "tier_share"),
        ("a share below a sat is nothing", {"tier": KNOWN}, 1, Serve.GATE, 0, "tier_share"),
        ("a new key gets nothing", {"tier": NEW}, 100, Serve.GATE, 0, "tier_share"),
        ("no tier at all", {"tier": None}, 100, Serve.GATE, 0, "no_tier"),
        ("a blocked key gets nothing", {"blocked": True}, 100, Serve.GATE, 0, "blocked"),
        ("what is left today", {"identity": Used(4960, 0)}, 100, Serve.PARTIAL, 40, "daily_limit"),
        ("what is reserved counts too", {"identity": Used(4000, 960)}, 100, Serve.PARTIAL, 40, "daily_limit"),
        ("nothing left today", {"identity": Used(5000, 0)}, 100, Serve.GATE, 0, "daily_limit"),
        ("a limit that was lowered below use", {"identity": Used(9000, 0)}, 100, Serve.GATE, 0, "daily_limit"),
        (
            "the address's cap",
            {"address": Used(400, 70), "address_cap_sats": 500},
            100,
            Serve.PARTIAL,
            30,
            "address_cap",
        ),
        ("the pool's cap", {"pool": Used(400, 70), "pool_cap_sats": 500}, 100, Serve.PARTIAL, 30, "pool_cap"),
        (
            "no cap is no cap",
            {"pool": Used(10**9, 0), "address": Used(10**9, 0)},
            100,
            Serve.FREE,
            100,
            "pool_pays_all",
        ),
        ("the pool's balance", {"pool_balance_sats": 99}, 100, Serve.PARTIAL, 99, "pool_balance"),
        ("an empty pool", {"pool_balance_sats": 0}, 100, Serve.GATE, 0, "pool_balance"),
    ],
)
def test_the_policy(rule: str, changed: dict[str, Any], estimate: int, serve: Serve, absorb: int, reason: str) -> None:
    decision = decide(replace(RICH, **changed), estimate)
    assert (decision.serve, decision.absorb_sats, decision.reason) == (serve, absorb, reason)
    assert decision.charge_sats + decision.absorb_sats == estimate


def test_no_identity_is_gate() -> None:
    decision = decide_without_identity(7)
    assert (decision.serve, decision.absorb_sats, decision.charge_sats) == (Serve.GATE, 0, 7)


def test_at_payment_exactly_the_advised_absorb_or_nothing() -> None:
    assert may_reserve(replace(RICH, pool_balance_sats=50), 100, 50)
    assert not may_reserve(replace(RICH, pool_balance_sats=49), 100, 50)
    assert not may_reserve(replace(RICH, identity=Used(4951, 0)), 100, 50)
    assert not may_reserve(replace(RICH, blocked=True), 100, 50)
    assert not may_reserve(RICH, 100, 0)


@pytest.mark.parametrize(
    ("paid", "days", "word", "name"),
    [(0, 0, None, "new"), (100, 0, None, "known"), (1000, 6, None, "known"), (1000, 7, None, "trusted"),
     (0, 0, "trusted", "trusted"), (5000, 90, "new", "new"), (100, 0, "no such tier", "known")],
)  # fmt: skip
def test_the_highest_tier_that_is_earned_or_the_operators_word(
    paid: int, days: int, word: str | None, name: str
) -> None:
    tier = tier_of(TIERS, paid_sats=paid, days_known=days, operator_tier=word)
    assert tier is not None
    assert tier.name == name


def test_without_tiers_nobody_has_one() -> None:
    assert tier_of((), paid_sats=10**9, days_known=999, operator_tier="new") is None


@given(
    st.integers(1, 10**9), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(TIERS)
)
def test_never_more_than_any_bound(estimate: int, used: int, balance: int, cap: int, tier: Tier) -> None:
    facts = Facts(tier, False, Used(used, 0), Used(used, 0), Used(0, used), balance, cap, cap)
    decision = decide(facts, estimate)
    assert 0 <= decision.absorb_sats <= min(balance, max(0, cap - used), max(0, tier.daily_limit_sats - used), estimate)
    assert decision.absorb_sats + decision.charge_sats == estimate
    assert decision.absorb_sats == 0 or may_reserve(facts, estimate, decision.absorb_sats)
    assert not may_reserve(facts, estimate, decision.absorb_sats + 1)


@pytest.mark.parametrize(
    ("failures", "since", "wait"), [(4, 0, 0), (5, 0, 30), (5, 29.5, 1), (5, 30, 0), (6, 0, 60), (40, 0, 3600)]
)
def test_failing_work_slows_its_buyer(failures: int, since: float, wait: int) -> None:
    assert pause_s(failures, since) == wait
