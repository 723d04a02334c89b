"""REFUND_MIN_SATS: less than that stays on account, and everyone who asks is told so."""

from __future__ import annotations

from typing import Any

from tests.web.conftest import Web


async def small_debt(web: Web, **more: Any) -> dict[str, Any]:
    """A finished job of 100 sats that owes 70, on a gateway whose refunds begin at 71."""
    raised = web.gateway.settings.model_copy(update={"refund_min_sats": 71})
    web.gateway.settings = raised
    job = await web.paid({"cost": 30}, **more)
    await web.until(job, state="complete", refundState="pending", refundAmountSats=70)
    return job


async def test_a_claim_of_less_than_the_minimum_is_refused_in_plain_words(web: Web) -> None:
    job = await small_debt(web)
    status, problem = await web.refund(job, web.invoice(70))
    assert (status, problem["code"], problem["refundMinSats"]) == (409, "refund_below_minimum", 71)
    assert "stay on account" in problem["detail"]
    assert "71 sats" in (await web.job(job))["refundProblem"]
    status, problem = await web.call("GET", f"/api/jobs/{job['id']}/refund/lnurl", token=job["token"])
    assert (status, problem["code"]) == (409, "refund_below_minimum")
    cookie = {"Cookie": f"boltworks_job={job['token']}"}
    async with web.http.get(f"{web.url}/jobs/{job['id']}", headers=cookie) as response:
        text = await response.text()
    assert 'id="too-small"' in text
    assert 'id="destination"' not in text
    assert web.node.sent == []


async def test_exactly_the_minimum_is_paid(web: Web) -> None:
    job = await small_debt(web)
    web.gateway.settings = web.gateway.settings.model_copy(update={"refund_min_sats": 70})
    assert "refundProblem" not in await web.job(job)
    assert (await web.refund(job, web.invoice(70)))[0] == 202
    await web.until(job, refundState="paid")
