"""Limits of what refunds may do to the node, seen from outside: fee budgets used up, and a full flight."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.refunds.decisions import FEE_BUDGET_WORDS
from gateway.refunds.fees import FeeBound
from ledger.money import Msat
from lightning import bolt11
from lightning.types import InFlight
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web


def set_limits(web: Web, **limits: int) -> None:
    web.gateway.settings = web.gateway.settings.model_copy(update=limits)


async def listed(web: Web, job: dict[str, Any]) -> dict[str, Any]:
    key = web.gateway.settings.operator_key.get_secret_value()
    _, page = await web.call("GET", "/api/operator/refunds", token=key)
    return dict(next(item for item in page["items"] if item["jobId"] == job["id"]))


async def test_with_the_budget_of_the_day_used_up_a_free_route_is_still_taken(web: Web) -> None:
    set_limits(web, refund_fee_budget_sats_per_day=0)
    job = await web.owing()
    await web.refund(job, web.invoice(70))
    await web.until(job, refundState="paid", refundAmountSats=70)
    assert [sent.fee_limit_msat for sent in web.node.sent] == [0]


async def test_with_the_budget_of_the_day_used_up_a_refund_waits_and_says_why(web: Web) -> None:
    web.node.route_fee_msat = Msat(2000)
    set_limits(web, refund_fee_budget_sats_per_day=3)
    first, second = await web.owing(), await web.owing()
    await web.refund(first, web.invoice(70))
    await web.until(first, refundState="paid")
    await web.refund(second, web.invoice(70))
    assert await web.until_refund_problem(second) == FEE_BUDGET_WORDS[FeeBound.DAY]
    assert (await web.job(second))["refundState"] == "pending"
    assert (await listed(web, second))["refundProblem"] == FEE_BUDGET_WORDS[FeeBound.DAY]
    assert "refundProblem" not in await listed(web, first)
    assert {sent.fee_limit_msat for sent in web.node.sent[1:]} == {1000}
    set_limits(web, refund_fee_budget_sats_per_day=10)
    await web.refund(second, web.invoice(70))
    await web.until(second, refundState="paid", refundAmountSats=70)
    assert await web.gateway.pool.fetchval("select sum(fee_counted_msat) from refund_attempts") == 4000


async def test_the_budget_of_one_payee_is_its_own(web: Web) -> None:
    web.node.route_fee_msat = Msat(2000)
    set_limits(web, refund_fee_budget_sats_per_destination=2)
    first, second = await web.owing(), await web.owing()
    await web.refund(first, web.invoice(70))
    await web.until(first, refundState="paid")
    await web.refund(second, web.invoice(70))
    assert await web.until_refund_problem(second) == FEE_BUDGET_WORDS[FeeBound.DESTINATION]
    await web.gateway.pool.execute("update refund_attempts set payee = $1", "03" + "44" * 32)
    await web.refund(second, web.invoice(70))
    await web.until(second, refundState="paid")


async def overpaid(web: Web) -> dict[str, Any]:
    """Owes 599,970 sats; a million may be in flight."""
    job = await web.buy("echo", {"cost": 30})
    web.pay(job, 600_000_000)
    await web.until(job, state="complete", refundState="pending", refundAmountSats=599_970)
    return job


async def until_attempt(web: Web, condition: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await web.gateway.pool.fetchval(f"select true from refund_attempts where {condition}"):  # noqa: S608
            await asyncio.sleep(0.05)


async def test_a_send_waits_while_as_much_as_may_be_is_in_flight(web: Web) -> None:
    first, second = await overpaid(web), await overpaid(web)
    one, two = web.invoice(0), web.invoice(0)
    web.node.next_outcomes.append(InFlight())
    await web.refund(first, one)
    await until_attempt(web, "sends = 1 and update_seen")
    await web.refund(second, two)
    await until_attempt(web, "sends = 0 and next_look_at > created_at")
    assert (web.sends(one), web.sends(two)) == (1, 0)
    assert (await web.job(second))["refundState"] == "paying"
    web.node.resolve(bolt11.read(one).payment_hash)
    await web.until(first, refundState="paid")
    await web.until(second, refundState="paid", refundAmountSats=599_970)
    assert (web.sends(one), web.sends(two)) == (1, 1)
