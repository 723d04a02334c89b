"""A refund that finds no route is tried again until its invoice expires, and gives way to another destination."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from gateway.refunds.decisions import MAX_SENDS, WORDS
from lightning.types import Failed, FailureReason
from tests.lnurl_wallet import Wallet
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web

NO_ROUTE = Failed(FailureReason.NO_ROUTE, 0)
WHY = WORDS[FailureReason.NO_ROUTE]


async def retrying(web: Web, job: dict[str, Any]) -> str:
    """An invoice to which there is no route; its attempt waits for its next send, which does not come by itself."""
    web.node.next_outcomes.extend([NO_ROUTE] * 50)
    invoice = web.invoice(70)
    assert (await web.refund(job, invoice))[0] == 202
    async with asyncio.timeout(PATIENCE_S):
        while not await web.gateway.pool.fetchval(
            "update refund_attempts set next_look_at = now() + interval '1 hour'"
            " where state = 'unfinished' and sends > 0 and sends = failed_sends and lease_until is null returning true"
        ):
            await asyncio.sleep(0.05)
    web.node.next_outcomes.clear()
    return invoice


async def attempts(web: Web) -> list[tuple[str, str | None]]:
    rows = await web.gateway.pool.fetch("select state, failure_reason from refund_attempts order by created_at")
    return [tuple(row) for row in rows]


async def test_no_route_is_tried_more_often_than_an_unheard_send_and_says_why_meanwhile(web: Web) -> None:
    job = await web.owing()
    tries = MAX_SENDS + 3
    web.node.next_outcomes.extend([NO_ROUTE] * tries)
    invoice = web.invoice(70)
    await web.refund(job, invoice)
    seen = set()
    async with asyncio.timeout(60):
        while (view := await web.job(job))["refundState"] != "paid":
            seen.add((view["refundState"], view.get("refundProblem")))
            await web.gateway.pool.execute("update refund_attempts set next_look_at = now()")
            web.gateway.refund_wake.set()
            await asyncio.sleep(0.02)
    assert ("paying", WHY) in seen
    assert {state for state, _ in seen} == {"paying"}
    assert "refundProblem" not in view
    assert web.sends(invoice) == tries + 1
    assert await attempts(web) == [("paid", None)]


async def test_when_its_invoice_expires_it_waits_for_another_and_says_why(web: Web) -> None:
    job = await web.owing()
    await retrying(web, job)
    await web.gateway.pool.execute("update refund_attempts set expires_at = now(), next_look_at = now()")
    await web.until(job, refundState="pending", refundProblem=WHY)


async def test_another_invoice_takes_the_place_of_one_without_a_route(web: Web) -> None:
    job = await web.owing()
    first = await retrying(web, job)
    tried = web.sends(first)
    assert (await web.job(job))["refundProblem"] == WHY
    second = web.invoice(70)
    assert (await web.refund(job, second))[0] == 202
    await web.until(job, refundState="paid", refundAmountSats=70)
    assert (web.sends(first), web.sends(second)) == (tried, 1)
    assert await attempts(web) == [("failed", WHY), ("paid", None)]


async def test_the_same_invoice_again_changes_nothing(web: Web) -> None:
    job = await web.owing()
    first = await retrying(web, job)
    assert (await web.refund(job, first))[0] == 202
    assert await attempts(web) == [("unfinished", WHY)]


async def test_a_destination_that_is_refused_ends_nothing(web: Web) -> None:
    job = await web.owing()
    await retrying(web, job)
    status, problem = await web.refund(job, web.invoice(69))
    assert (status, problem["code"]) == (422, "destination_wrong_amount")
    assert (await web.job(job))["refundState"] == "paying"
    assert await attempts(web) == [("unfinished", WHY)]


async def test_ten_other_invoices_at_once_pay_one(web: Web) -> None:
    job = await web.owing()
    await retrying(web, job)
    answers = await asyncio.gather(*(web.refund(job, web.invoice(70)) for _ in range(10)))
    # Whoever comes when the first has been paid already finds nothing left to claim.
    assert sorted(status for status, _ in answers) == [202] + [409] * 9
    await web.until(job, refundState="paid", refundAmountSats=70)
    paid = "select coalesce(sum(amount_msat), 0) from transfers where cause_kind = 'refund_paid'"
    assert await web.gateway.pool.fetchval(paid) == 70_000


async def test_an_address_or_a_scanned_code_takes_its_place_too(web: Web, wallet: Wallet) -> None:
    first, second = await web.owing(), await web.owing()
    await retrying(web, first)
    assert (await web.refund(first, wallet.address))[0] == 202
    await web.until(first, refundState="paid", refundAmountSats=70)
    await retrying(web, second)
    cookie = {"Cookie": f"boltworks_job={second['token']}"}
    async with web.http.get(f"{web.url}/jobs/{second['id']}", headers=cookie) as page:
        text = await page.text()
    assert 'id="withdraw"' in text
    assert 'id="destination"' in text
    status, code = await web.call("GET", f"/api/jobs/{second['id']}/refund/lnurl", token=second["token"])
    assert (status, code["amountSats"]) == (200, 70)
    path = code["url"].removeprefix(web.url)
    _, offer = await web.call("GET", path)
    _, answer = await web.call("GET", f"{path}/pay?k1={offer['k1']}&pr={web.invoice(70)}")
    assert answer == {"status": "OK"}
    await web.until(second, refundState="paid", refundAmountSats=70)


@pytest.mark.parametrize(
    "held",
    ["lease_owner = 'executor', lease_until = now() + interval '1 hour'", "sends = sends + 1"],
    ids=["leased", "a send is unaccounted for"],
)
async def test_what_may_still_send_does_not_give_way(web: Web, dsn: str, held: str) -> None:
    job = await web.owing()
    await retrying(web, job)
    conn = await asyncpg.connect(dsn)
    await conn.execute(f"update refund_attempts set {held}")  # noqa: S608
    status, problem = await web.refund(job, web.invoice(70))
    assert (status, problem["code"]) == (409, "refund_in_progress")
    assert [state for state, _ in await attempts(web)] == ["unfinished"]
    await conn.close()
