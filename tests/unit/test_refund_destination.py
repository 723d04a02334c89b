"""Truth table of what may be paid: each refusal of an invoice with its own code, at its very limit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway import problems as p
from gateway.problems import Problem, ProblemType
from gateway.refunds.destination import DestinationRules, refuse_amount, refuse_network, refuse_unpayable
from lightning.types import NodeInfo
from tests.debts import OTHER_PAYEE, PAYEE, destination

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OWN = NodeInfo(OTHER_PAYEE, "us", "regtest", True, 100, "0")
RULES = DestinationRules(cltv_limit=432)
GOOD = replace(destination("x").request, created_at=NOW, expires_at=NOW + timedelta(hours=1))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"expires_at": NOW + timedelta(seconds=31)}, None),
        ({"expires_at": NOW + timedelta(seconds=30)}, p.DESTINATION_EXPIRED),
        ({"expires_at": NOW - timedelta(days=1)}, p.DESTINATION_EXPIRED),
        ({"expires_at": NOW + timedelta(days=31)}, None),
        ({"expires_at": NOW + timedelta(days=31, seconds=1)}, p.DESTINATION_INVALID),
        ({"destination": PAYEE}, None),
        ({"destination": OTHER_PAYEE}, p.DESTINATION_OWN_NODE),
        # 432 blocks in all, 144 of them for the route
        ({"min_final_cltv": 288}, None),
        ({"min_final_cltv": 289}, p.DESTINATION_TIMELOCK),
        ({"is_plain": False}, p.DESTINATION_INVALID),
        ({"amount_msat": 70_000}, None),
        ({"amount_msat": 70_001}, p.DESTINATION_WRONG_AMOUNT),
    ],
)
def test_what_an_invoice_may_ask_for(change: dict[str, Any], problem: ProblemType | None) -> None:
    request = replace(GOOD, **change)
    if problem is None:
        refuse_unpayable(request, OWN, NOW, RULES)
        return
    with pytest.raises(Problem) as refused:
        refuse_unpayable(request, OWN, NOW, RULES)
    assert refused.value.type is problem


@pytest.mark.parametrize(("amount_msat", "right"), [(0, True), (70_000, True), (69_000, False), (71_000, False)])
def test_exactly_what_is_owed_or_no_amount(amount_msat: int, right: bool) -> None:
    request = replace(GOOD, amount_msat=amount_msat)
    if right:
        refuse_amount(request, 70)
        return
    with pytest.raises(Problem) as refused:
        refuse_amount(request, 70)
    assert refused.value.type is p.DESTINATION_WRONG_AMOUNT
    assert refused.value.extra == {"refundAmountSats": 70}
    assert "owed are 70 sats" in refused.value.detail


def test_the_network_is_this_nodes() -> None:
    refuse_network("regtest", OWN)
    with pytest.raises(Problem) as refused:
        refuse_network("mainnet", OWN)
    assert refused.value.type is p.DESTINATION_WRONG_NETWORK
