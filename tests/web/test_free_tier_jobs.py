"""The free tier over HTTP: free, partial, drained, released; estimates that write nothing; who owns a job."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from ledger.database import Pool
from tests.nostr import Signer, header
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web
from tests.web.free_tier import ALICE, buy_as, fund, operator, pool_now, rank, signed


async def buy(web: Web, work_input: dict[str, Any]) -> dict[str, Any]:
    return await buy_as(web, ALICE, "echo", work_input)


async def test_free_the_pool_pays_at_decide_and_what_was_not_used_returns(web: Web) -> None:
    await fund(web, 150)
    await rank(web, "all")
    job = await buy(web, {"cost": 30, "hold": True})
    assert (job["state"], job["serve"], job["absorbSats"], job["workAmountSats"]) == ("executing", "free", 100, 0)
    assert "invoice" not in job
    assert await pool_now(web) == (50, 100, 0)
    web.service.release.set()
    done = await web.until(job, state="complete")
    assert (done["absorbedSats"], done["userChargeSats"], done["refundState"]) == (30, 0, "none")
    assert await pool_now(web) == (120, 0, 30)
    grants = (await operator(web, "GET", "grants"))["items"]
    assert [(g["pubkey"], g["reservedSats"], g["absorbedSats"]) for g in grants] == [(ALICE.pubkey, 100, 30)]


async def test_free_work_that_fails_releases_all(web: Web) -> None:
    await fund(web, 100)
    await rank(web, "all")
    job = await buy(web, {"fail": True})
    await web.until(job, state="failed", refundState="none")
    assert await pool_now(web) == (100, 0, 0)


async def test_partial_is_advisory_until_paid_and_the_refund_is_right(web: Web) -> None:
    await fund(web, 60)
    await rank(web, "half")
    job = await buy(web, {"cost": 70})
    assert (job["state"], job["serve"], job["absorbSats"], job["workAmountSats"]) == (
        "awaiting_work_payment",
        "partial",
        50,
        50,
    )
    assert await pool_now(web) == (60, 0, 0)
    web.pay(job, 55_000)
    done = await web.until(job, state="complete")
    # absorbed min(70, 50); the user pays 20 of the 55 that LND says were paid.
    assert (done["absorbedSats"], done["userChargeSats"], done["refundAmountSats"]) == (50, 20, 35)
    assert await pool_now(web) == (11, 0, 50)  # 60 - 50 + 5 % of 20


async def test_a_pool_drained_at_payment_fails_the_job_and_owes_all(web: Web) -> None:
    await fund(web, 60)
    await rank(web, "half")
    first, second = await buy(web, {"cost": 70}), await buy(web, {"cost": 70})
    web.pay(first)
    await web.until(first, state="complete")
    web.pay(second)
    drained = await web.until(second, state="failed")
    assert (drained["refundState"], drained["refundAmountSats"]) == ("pending", 50)
    assert "pool" in drained["failureReason"]
    assert len(web.service.orders) == 1


async def test_blocked_in_between_gets_no_grant(web: Web) -> None:
    await fund(web, 1000)
    await rank(web, "half")
    job = await buy(web, {})
    await operator(web, "PUT", f"identities/{ALICE.pubkey}", {"blocked": True})
    web.pay(job)
    await web.until(job, state="failed", refundState="pending", refundAmountSats=50)
    assert web.service.orders == []


async def test_parallel_free_jobs_never_pass_the_daily_limit_or_the_pool(web: Web) -> None:
    await fund(web, 350)
    await rank(web, "all")
    jobs = await asyncio.gather(*(buy(web, {"hold": True}) for _ in range(12)))
    # Three are free, the fourth gets the 50 that are left as advice, and so do the others: advice debits nothing.
    assert sorted(job["serve"] for job in jobs) == ["free"] * 3 + ["partial"] * 9
    assert await pool_now(web) == (50, 300, 0)
    web.service.release.set()
    for job in jobs:
        if job["serve"] == "free":
            await web.until(job, state="complete")
    assert await pool_now(web) == (347, 0, 3)


async def test_ten_payments_race_for_a_pool_that_holds_three(web: Web) -> None:
    await fund(web, 150)
    await rank(web, "half")
    jobs = [await buy(web, {"cost": 100, "hold": True}) for _ in range(10)]
    for job in jobs:
        web.pay(job)
    ended = [await web.until(job, state="failed") for job in await _failed(web, jobs, 7)]
    assert all(job["refundAmountSats"] == 50 for job in ended)
    web.service.release.set()
    running = [job for job in jobs if job["id"] not in {e["id"] for e in ended}]
    for job in running:
        done = await web.until(job, state="complete")
        assert (done["absorbedSats"], done["userChargeSats"]) == (50, 50)
    assert len(running) == 3


async def _failed(web: Web, jobs: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            now = [await web.job(job) for job in jobs]
            if all(job["state"] != "awaiting_work_payment" for job in now):
                failed = [job for job, seen in zip(jobs, now, strict=True) if seen["state"] == "failed"]
                assert len(failed) == count
                return failed
            await asyncio.sleep(0.05)


async def test_charges_raise_the_tier(web: Web) -> None:
    await web.gateway.pool.execute("insert into identities (pubkey, paid_sats) values ($1, 990)", ALICE.pubkey)
    job = await buy(web, {"cost": 10})
    assert job["serve"] == "gate"
    web.pay(job)
    await web.until(job, state="complete", userChargeSats=10)
    _, me = await signed(web, "GET", "/api/identity")
    assert (me["tier"], me["dailyLimitSats"]) == ("half", 1000)


@pytest.mark.slow
async def test_a_thousand_estimates_leave_every_table_as_it_was(web: Web) -> None:
    await fund(web, 500)
    await rank(web, "half")
    watched = ["accounts", "transfers", "identities", "gate_days", "reservations", "grants", "jobs", "invoices"]
    kept = [*watched, "idempotency_keys", "nostr_events", "work_failures", "refunds", "refund_attempts"]
    before = [await _table(web.gateway.pool, name) for name in kept]
    body = {"work": "echo", "input": {}}
    for n in range(500):
        who = ALICE if n % 2 else Signer(1000 + n)
        status, answer = await signed(web, "POST", "/api/estimate", body, who=who)
        assert (status, answer["serve"]) == (200, "partial" if n % 2 else "gate")
        status, answer = await web.call("POST", "/api/estimate", body)
        assert (status, answer["reason"]) == (200, "no_identity")
    assert [await _table(web.gateway.pool, name) for name in kept] == before


async def _table(pool: Pool, name: str) -> Any:
    return await pool.fetchval(
        f"select md5(coalesce(string_agg(t::text, '|' order by t::text), '')) from {name} t"  # noqa: S608
    )


async def test_an_event_is_accepted_once(web: Web) -> None:
    raw = json.dumps({"work": "echo", "input": {}}).encode()
    headers = header(ALICE.call("POST", f"{web.url}/api/jobs", raw)) | {"Content-Type": "application/json"}
    codes = []
    for _ in range(2):
        async with web.http.post(f"{web.url}/api/jobs", data=raw, headers=headers) as response:
            codes.append((response.status, (await response.json()).get("code")))
    assert codes == [(201, None), (401, "nostr_event_replayed")]


async def test_the_owner_opens_the_job_and_no_other_key_does(web: Web) -> None:
    job = await buy(web, {})
    status, seen = await signed(web, "GET", f"/api/jobs/{job['id']}")
    assert (status, seen["id"]) == (200, job["id"])
    status, _ = await signed(web, "GET", f"/api/jobs/{job['id']}", who=Signer(12))
    assert status == 401
    status, _ = await signed(web, "POST", f"/api/jobs/{job['id']}/cancel")
    assert status == 200


async def test_buyers_whose_work_keeps_failing_wait(web: Web) -> None:
    for _ in range(5):
        job = await web.paid({"fail": True})
        await web.until(job, state="failed")
    status, problem = await web.call("POST", "/api/jobs", {"work": "echo", "input": {}})
    assert (status, problem["code"]) == (429, "slowed")


async def test_a_donation_is_the_pools(web: Web) -> None:
    status, gift = await web.call("POST", "/api/pool/donations", {"amountSats": 21})
    assert status == 201
    web.pay(gift)
    async with asyncio.timeout(PATIENCE_S):
        while (await pool_now(web))[0] != 21:
            await asyncio.sleep(0.05)
    async with web.http.get(f"{web.url}/pool") as page:
        text = await page.text()
    assert "A donation" in text
    assert "+21 sats" in text


async def test_the_operators_lists_page_and_export(web: Web) -> None:
    for _ in range(3):
        await fund(web, 5)
    first = await operator(web, "GET", "transfers?limit=2")
    rest = await operator(web, "GET", f"transfers?limit=2&after={first['next']}")
    assert [len(first["items"]), len(rest["items"]), "next" in rest] == [2, 1, False]
    key = web.gateway.settings.operator_key.get_secret_value()
    headers = {"Authorization": f"Bearer {key}", "Accept": "text/csv"}
    async with web.http.get(f"{web.url}/api/operator/transfers", headers=headers) as response:
        lines = (await response.text()).splitlines()
    assert lines[0].startswith("id,causeKind,causeId,debit,credit,amountMsat")
    assert len(lines) == 4
    for path in ("identities", "grants", "jobs", "refunds", "balances"):
        assert "items" in await operator(web, "GET", path)
    status, problem = await web.call("GET", "/api/operator/jobs", token="not the key at all")
    assert (status, problem["code"]) == (401, "credential_invalid")
    status, problem = await web.call("GET", "/api/operator/transfers?after=x", token=key)
    assert (status, problem["code"]) == (400, "invalid_request")


async def test_a_topup_with_one_key_is_booked_once(web: Web) -> None:
    key = {"Idempotency-Key": "a-key-of-twenty-characters"}
    token = web.gateway.settings.operator_key.get_secret_value()
    for amount, status in ((7, 200), (7, 200), (8, 422)):
        answered, _ = await web.call(
            "POST", "/api/operator/pool/topups", {"amountSats": amount}, token=token, headers=key
        )
        assert answered == status
    assert (await pool_now(web))[0] == 7
