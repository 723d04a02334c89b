"""Dust: a refund below the minimum is given to the pool, once, by whoever may claim it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.api.models import JobView
from gateway.pages.story import story
from gateway.problems import Problem
from gateway.refunds.claim import claim
from gateway.refunds.donate import donate_refund
from tests.debts import destination
from tests.web.conftest import Web


async def dust(web: Web) -> dict[str, Any]:
    """A finished job of 100 sats that owes 70, on a gateway whose refunds begin at 71."""
    web.gateway.settings = web.gateway.settings.model_copy(update={"refund_min_sats": 71})
    job = await web.paid({"cost": 30})
    await web.until(job, state="complete", refundState="pending", refundAmountSats=70)
    return job


async def donate(web: Web, job: dict[str, Any], **headers: str) -> tuple[int, Any]:
    return await web.call("POST", f"/api/jobs/{job['id']}/refund/donate", token=job["token"], headers=headers)


async def pool_msat(web: Web) -> int:
    return int(await web.gateway.pool.fetchval("select balance_msat from accounts where code = 'pool'"))


async def test_dust_becomes_the_pools_and_the_job_says_so(web: Web) -> None:
    job = await dust(web)
    before = await pool_msat(web)
    status, given = await donate(web, job)
    assert status == 200
    assert (given["refundState"], given["refundAmountSats"], given["refundDonatedSats"]) == ("paid", 70, 70)
    assert "refundProblem" not in given
    assert await pool_msat(web) - before == 70_000
    status, problem = await donate(web, job)
    assert (status, problem["code"]) == (409, "nothing_to_refund")
    status, problem = await web.refund(job, web.invoice(70))
    assert (status, problem["code"]) == (409, "nothing_to_refund")
    assert web.node.sent == []


async def test_what_can_be_sent_is_not_given_away(web: Web) -> None:
    job = await dust(web)
    web.gateway.settings = web.gateway.settings.model_copy(update={"refund_min_sats": 70})
    status, problem = await donate(web, job)
    assert (status, problem["code"]) == (409, "refund_not_dust")
    assert (await web.refund(job, web.invoice(70)))[0] == 202
    paid = await web.until(job, refundState="paid")
    assert "refundDonatedSats" not in paid


async def test_only_who_may_claim_it_gives_it(web: Web) -> None:
    job, other = await dust(web), await dust(web)
    status, problem = await donate(web, {**job, "token": other["token"]})
    assert (status, problem["code"]) == (401, "credential_invalid")
    assert (await web.job(job))["refundState"] == "pending"


async def test_ten_at_once_give_it_once(web: Web) -> None:
    job = await dust(web)
    before = await pool_msat(web)
    answers = await asyncio.gather(*(donate(web, job) for _ in range(10)))
    assert sorted(status for status, _ in answers) == [200] + [409] * 9
    assert await pool_msat(web) - before == 70_000


async def test_one_key_gives_it_once_and_answers_the_same(web: Web) -> None:
    job = await dust(web)
    key = {"Idempotency-Key": "a-key-of-twenty-characters"}
    first = await donate(web, job, **key)
    assert first[0] == 200
    assert await donate(web, job, **key) == first


async def test_a_gift_whose_answer_was_lost_is_answered_by_its_key(web: Web) -> None:
    """The process died between the gift and its answer; its claim on the key is over."""
    job = await dust(web)
    key = {"Idempotency-Key": "a-key-of-twenty-characters"}
    first = await donate(web, job, **key)
    await web.gateway.pool.execute(
        "update idempotency_keys set status = null, response = null, lease_until = now() - interval '1 second'"
    )
    assert await donate(web, job, **key) == first


async def test_a_claim_and_a_gift_at_once_are_one_of_them(web: Web) -> None:
    """Two processes with another minimum each: the lock of the job lets one take the debt."""
    pool = web.gateway.pool
    for number in range(6):
        job = await dust(web)
        outcomes = await asyncio.gather(
            claim(pool, job["id"], destination(f"race {number}"), web.gateway.fee_limit, 1),
            donate_refund(pool, job["id"], 71),
            return_exceptions=True,
        )
        assert sum(isinstance(outcome, Problem) for outcome in outcomes) == 1
        states = await pool.fetch("select state from refunds where job_id = $1", job["id"])
        assert [row["state"] for row in states] in (["paying"], ["paid"], ["donated"], ["pending"])


async def test_the_page_has_a_button_for_it(web: Web) -> None:
    job = await dust(web)
    cookie = {"Cookie": f"boltworks_job={job['token']}"}
    async with web.http.get(f"{web.url}/jobs/{job['id']}", headers=cookie) as page:
        assert 'id="donate"' in await page.text()
    async with web.http.post(f"{web.url}/jobs/{job['id']}/donate", headers=cookie) as page:
        text = await page.text()
    assert page.status == 200
    assert "70 sats went to the free pool, as you said" in text
    assert "Given to the free pool" in text
    assert "sent to your wallet" not in text
    assert (await web.job(job))["refundDonatedSats"] == 70
    async with web.http.get(f"{web.url}/pool") as page:
        assert "given by its owner" in await page.text()


@pytest.mark.parametrize(
    ("given", "words", "lines"),
    [
        (None, "70 sats went back to you", [("Sent back to you", 70)]),
        (70, "70 sats went to the free pool, as you said", [("Given to the free pool", 70)]),
        (
            20,
            "70 sats went back to you, 20 sats of it to the free pool",
            [("Given to the free pool", 20), ("Sent back to you", 50)],
        ),
    ],
)
def test_a_page_tells_what_was_given_from_what_was_sent(
    given: int | None, words: str, lines: list[tuple[str, int]]
) -> None:
    view = JobView.model_validate(
        {
            "id": "x", "work": "echo", "state": "complete", "serve": "gate", "estimateSats": 100, "absorbSats": 0,
            "workAmountSats": 100, "userChargeSats": 30, "refundState": "paid", "refundAmountSats": 70,
            "refundDonatedSats": given, "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
            "invoice": {"paymentRequest": "ln", "paymentHash": "00", "amountSats": 100, "amountPaidSats": 100,
                        "expiresAt": "2026-01-01T00:00:00Z", "state": "settled"},
        }
    )  # fmt: skip
    told = story(view)
    assert words in told.headline
    assert [(line.label, line.amount_sats) for line in told.receipt[2:]] == lines
