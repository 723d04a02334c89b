"""What the operator does about refunds: a rejected destination tried again, the books compared now."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.waiting import PATIENCE_S
from tests.web.conftest import Web


async def operator(web: Web, method: str, path: str) -> tuple[int, Any]:
    key = web.gateway.settings.operator_key.get_secret_value()
    return await web.call(method, f"/api/operator/{path}", token=key)


async def refund_id(web: Web) -> str:
    return str(await web.gateway.pool.fetchval("select id from refunds"))


async def test_a_rejected_destination_is_tried_again(web: Web) -> None:
    job = await web.paid({"cost": 30}, refundTo=web.invoice(69))
    await web.until(job, state="complete", refundState="pending")
    async with asyncio.timeout(PATIENCE_S):
        while "70 sats" not in (await web.job(job)).get("refundProblem", ""):
            await asyncio.sleep(0.05)
    usable = web.invoice(70)
    await web.gateway.pool.execute("update jobs set refund_to = $1", usable)
    status, answer = await operator(web, "POST", f"refunds/{await refund_id(web)}/retry")
    assert (status, answer["jobId"], answer["refundTo"]) == (200, job["id"], usable)
    await web.until(job, refundState="paid", refundAmountSats=70)
    status, problem = await operator(web, "POST", f"refunds/{await refund_id(web)}/retry")
    assert (status, problem["code"], problem["detail"]) == (409, "refund_not_retryable", "It is paid.")


async def test_without_a_destination_there_is_nothing_to_retry(web: Web) -> None:
    job = await web.paid({"cost": 30})
    await web.until(job, state="complete", refundState="pending")
    status, problem = await operator(web, "POST", f"refunds/{await refund_id(web)}/retry")
    assert (status, problem["code"]) == (409, "refund_not_retryable")
    assert "No destination" in problem["detail"]
    assert (await operator(web, "POST", "refunds/unknown/retry"))[1]["code"] == "refund_not_found"
    assert (await web.call("POST", "/api/operator/refunds/unknown/retry"))[0] == 401


async def test_the_reconciliation_is_told(web: Web) -> None:
    job = await web.paid({"cost": 30})
    await web.until(job, state="complete", refundState="pending")
    status, report = await operator(web, "GET", "reconciliation")
    assert (status, report["known"], report["clean"], report["settledMsat"]) == (200, True, True, 100_000)
    web.node.go_unavailable()
    status, report = await operator(web, "GET", "reconciliation")
    web.node.come_back()
    assert (status, report["known"], report["nodeMsat"]) == (200, False, None)
    assert report["whyUnknown"]
    assert (await web.call("GET", "/api/operator/reconciliation"))[0] == 401
