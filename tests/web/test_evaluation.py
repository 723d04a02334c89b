"""The evaluation step over HTTP: who pays for the look, what its answer does to state, price and money."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from gateway.api.models import JobView
from gateway.execution.queue import enqueue
from gateway.jobs import evaluate
from gateway.jobs.evaluate import Evaluation, Terms
from gateway.pages.story import story
from gateway.settlement.sweep import Sweep
from gateway.work.evaluator import read_verdict
from gateway.work.worker import WorkFailed
from ledger import book
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web
from tests.web.free_tier import ALICE, buy_as, fund, operator, pool_now, rank


async def balance_msat(web: Web, account: str) -> int:
    async with web.gateway.pool.acquire() as conn:
        return (await book.balances(conn))[account]


async def test_paid_accepted_cheaper_and_done(web: Web) -> None:
    job = await web.buy("looked-at", {"verdict": {"accept": True, "estimateSats": 40}, "cost": 30})
    assert (job["state"], job["estimateSats"], job["evaluation"]) == ("awaiting_eval_payment", 100, {"feeSats": 10})
    assert job["invoice"]["amountSats"] == 10
    assert web.service.looks == []
    web.pay(job)
    priced = await web.until(job, state="awaiting_work_payment")
    assert priced["evaluation"] == {"feeSats": 10, "outcome": "accepted", "chargedSats": 10, "absorbedSats": 0}
    assert (priced["estimateSats"], priced["workAmountSats"], priced["serve"]) == (40, 40, "gate")
    assert web.service.looks == [
        {
            "jobId": job["id"],
            "work": "looked-at",
            "input": {"verdict": {"accept": True, "estimateSats": 40}, "cost": 30},
        }
    ]
    payable = await opened(web, job)
    assert payable["invoice"]["amountSats"] == 40
    web.pay(payable)
    done = await web.until(job, state="complete")
    assert (done["actualCostSats"], done["userChargeSats"], done["refundAmountSats"]) == (30, 30, 10)
    assert web.service.orders[0]["maxCostSats"] == 40
    # Fee and charge are revenue; the pool has its 5 % of each.
    assert await balance_msat(web, "revenue") == 40_000 - 500 - 1500
    assert await balance_msat(web, "pool") == 2000


async def opened(web: Web, job: dict[str, Any]) -> dict[str, Any]:
    """The job once its work's invoice can be paid."""
    async with asyncio.timeout(PATIENCE_S):
        while (seen := await web.job(job))["state"] != "awaiting_work_payment" or "invoice" not in seen:
            await asyncio.sleep(0.05)
    return seen


async def test_no_word_of_a_price_is_the_catalogues(web: Web) -> None:
    job = await web.buy("looked-at", {"verdict": {"accept": True}})
    web.pay(job)
    assert (await web.until(job, state="awaiting_work_payment"))["workAmountSats"] == 100


async def test_rejected_keeps_the_fee_and_says_why(web: Web) -> None:
    job = await web.buy("looked-at", {"verdict": {"accept": False, "reason": "Too blurred to read."}})
    web.pay(job, 12_345)
    said = await web.until(job, state="rejected")
    assert said["failureReason"] == "Too blurred to read."
    assert said["evaluation"]["chargedSats"] == 10
    assert (said["refundState"], said["refundAmountSats"]) == ("pending", 2)
    assert await balance_msat(web, "sub_sat") == 345
    assert web.service.orders == []


NO_ANSWERS = [
    {},
    {"verdict": "yes"},
    {"verdict": {"accept": 1}},
    {"verdict": {"accept": True, "estimateSats": 101}},
    {"verdict": {"accept": True, "estimateSats": 0}},
    {"verdict": {"accept": True, "estimateSats": 5.0}},
    {"verdict": {"accept": True, "estimateSats": True}},
    {"verdict": {"accept": False, "reason": 7}},
]


@pytest.mark.parametrize("work_input", NO_ANSWERS, ids=repr)
async def test_an_evaluator_that_gives_no_answer_costs_nothing(web: Web, work_input: dict[str, Any]) -> None:
    job = await web.buy("looked-at", work_input)
    web.pay(job)
    failed = await web.until(job, state="failed")
    assert (failed["refundState"], failed["refundAmountSats"]) == ("pending", 10)
    assert failed["evaluation"] == {"feeSats": 10, "outcome": "failed", "chargedSats": 0, "absorbedSats": 0}
    assert failed["failureReason"].startswith("The service that looks at this input")


async def test_an_unpaid_fee_expires_and_can_be_cancelled(web: Web) -> None:
    job = await web.buy("looked-at", {"verdict": {"accept": True}})
    status, ended = await web.call("POST", f"/api/jobs/{job['id']}/cancel", token=job["token"])
    assert (status, ended["state"], ended["refundState"]) == (200, "expired", "none")
    assert web.service.looks == []


async def test_an_accepted_job_that_is_not_paid_expires_and_its_fee_stays_paid(web: Web) -> None:
    job = await web.buy("looked-at", {"verdict": {"accept": True}})
    web.pay(job)
    payable = await opened(web, job)
    status, ended = await web.call("POST", f"/api/jobs/{job['id']}/cancel", token=job["token"])
    assert (status, ended["state"], ended["refundAmountSats"]) == (200, "expired", 0)
    assert payable["invoice"]["paymentHash"] != job["invoice"]["paymentHash"]


async def test_a_fee_paid_twice_or_late_is_owed_back(web: Web) -> None:
    job = await web.buy("looked-at", {"verdict": {"accept": False}})
    async with web.gateway.pool.acquire() as conn:
        # An interrupted creation that was resumed past its planned expiry has two invoices.
        await conn.execute(
            "insert into invoices (payment_hash, preimage, purpose, job_id, client_address, amount_msat, memo, state,"
            " payment_request, planned_expires_at, expires_at) select sha256($2::bytea), $2, 'evaluation', job_id,"
            " client_address, amount_msat, memo, 'planned', null, now() + interval '1 hour', null"
            " from invoices where job_id = $1",
            job["id"],
            b"s" * 32,
        )
    second = await web.node.add_invoice(b"s" * 32, 10_000, "x", 600)
    web.pay(job)
    await web.until(job, state="rejected")
    web.node.settle(second.payment_hash)
    owed = await web.until(job, refundState="pending")
    assert (owed["state"], owed["refundAmountSats"]) == ("rejected", 10)


async def test_whom_the_pool_would_serve_free_has_the_fee_granted(web: Web) -> None:
    await fund(web, 1000)
    await rank(web, "all", ALICE)
    job = await buy_as(web, ALICE, "looked-at", {"verdict": {"accept": True, "estimateSats": 60}, "cost": 20})
    assert (job["state"], "invoice" in job) == ("evaluating", False)
    done = await web.until(job, state="complete")
    assert (done["serve"], done["estimateSats"], done["absorbedSats"], done["userChargeSats"]) == ("free", 60, 20, 0)
    assert done["evaluation"] == {"feeSats": 10, "outcome": "accepted", "chargedSats": 0, "absorbedSats": 10}
    assert await pool_now(web) == (970, 0, 30)
    grants = (await operator(web, "GET", "grants"))["items"]
    assert sorted((g["reservedSats"], g["absorbedSats"]) for g in grants) == [(10, 10), (60, 20)]


async def test_a_granted_fee_is_the_pools_again_when_the_evaluator_fails(web: Web) -> None:
    await fund(web, 1000)
    await rank(web, "all", ALICE)
    job = await buy_as(web, ALICE, "looked-at", {})
    await web.until(job, state="failed", refundState="none")
    assert await pool_now(web) == (1000, 0, 0)


async def test_who_is_only_helped_pays_the_fee_and_is_helped_with_the_evaluated_price(web: Web) -> None:
    await fund(web, 1000)
    await rank(web, "half", ALICE)
    job = await buy_as(web, ALICE, "looked-at", {"verdict": {"accept": True, "estimateSats": 60}, "cost": 50})
    assert job["invoice"]["amountSats"] == 10
    web.pay(job)
    payable = await opened(web, job)
    assert (payable["serve"], payable["absorbSats"], payable["invoice"]["amountSats"]) == ("partial", 30, 30)
    assert await pool_now(web) == (1000, 0, 0)  # advisory; the pool's share of 10 sats is half a sat
    web.pay(payable)
    done = await web.until(job, state="complete")
    assert (done["absorbedSats"], done["userChargeSats"], done["refundAmountSats"]) == (30, 20, 10)
    identities = (await operator(web, "GET", "identities"))["items"]
    assert [i["paidSats"] for i in identities if i["pubkey"] == ALICE.pubkey] == [30]  # fee and charge


async def test_a_pool_that_can_not_pay_fee_and_work_grants_no_fee(web: Web) -> None:
    await fund(web, 99)
    await rank(web, "all", ALICE)
    job = await buy_as(web, ALICE, "looked-at", {"verdict": {"accept": True}})
    assert (job["state"], job["invoice"]["amountSats"]) == ("awaiting_eval_payment", 10)


async def test_a_look_that_costs_nothing_begins_at_once_and_takes_up_room(web: Web) -> None:
    room = web.gateway.settings.open_invoices_per_address
    jobs = [
        await web.buy("looked-at-free", {"verdict": {"accept": False}, "holdLook": True, "n": n}) for n in range(room)
    ]
    assert {job["state"] for job in jobs} == {"evaluating"}
    for work in ("looked-at-free", "echo"):
        status, problem = await web.call("POST", "/api/jobs", {"work": work, "input": {}})
        assert (status, problem["code"]) == (429, "too_many_open_invoices")
    web.service.release.set()
    for job in jobs:
        said = await web.until(job, state="rejected", refundState="none")
        assert said["evaluation"] == {"feeSats": 0, "outcome": "rejected", "chargedSats": 0, "absorbedSats": 0}


async def test_an_invoice_that_its_opener_could_not_open_is_opened_by_the_sweep(web: Web) -> None:
    job = await web.buy("looked-at", {"verdict": {"accept": True}, "holdLook": True})
    web.pay(job)
    async with asyncio.timeout(PATIENCE_S):
        await web.service.looked.wait()
    pool = web.gateway.pool
    # The evaluator's process dies after its answer was committed: the answer is given here, and nothing opened.
    async with pool.acquire() as conn:
        attempt = await conn.fetchval("select attempt from evaluations where job_id = $1", job["id"])
    terms = Terms(web.gateway.rules, web.gateway.catalogue.pool.share_of_revenue, web.gateway.invoice_limits, "memo")
    answered = await evaluate.accept(pool, Evaluation(job["id"], "looked-at", {}, 100, attempt, 0), 70, terms)
    assert answered.planned is not None
    assert await evaluate.unopened_invoice(pool, answered.planned.payment_hash, can_open=True) is not None
    # It lies about for so long that its preimage may not be used any more: another one takes its place.
    await pool.execute(
        "update invoices set planned_expires_at = now() - interval '2 min', created_at = now() - interval '9 min'"
        " where payment_hash = $1",
        answered.planned.payment_hash,
    )
    sweep = Sweep(pool, web.node, web.gateway.metrics, enqueue, 60, asyncio.Event(), web.gateway.rules)
    await sweep.once()
    payable = await opened(web, job)
    assert payable["invoice"]["amountSats"] == 70
    assert payable["invoice"]["paymentHash"] != answered.planned.payment_hash.hex()
    # The evaluator's own late answer changes nothing.
    web.service.release.set()
    web.pay(payable)
    await web.until(job, state="complete")
    assert (
        await evaluate.reject(
            pool, Evaluation(job["id"], "looked-at", {}, 100, attempt, 0), "no", terms.share_of_revenue
        )
        == evaluate.LATE
    )


async def test_an_answer_of_an_earlier_run_is_late(web: Web) -> None:
    job = await web.buy("looked-at", {"verdict": {"accept": True}, "holdLook": True})
    web.pay(job)
    async with asyncio.timeout(PATIENCE_S):
        await web.service.looked.wait()
    first = await evaluate.begin(web.gateway.pool, job["id"])  # the run of another process: the one before is lost
    assert first is not None
    assert (first.attempt, first.lost_runs) == (2, 1)
    earlier = replace(first, attempt=1)
    assert await evaluate.reject(web.gateway.pool, earlier, "No.", Decimal(0)) == evaluate.LATE
    assert await evaluate.fail(web.gateway.pool, earlier, "No.") == evaluate.LATE
    assert (await evaluate.fail(web.gateway.pool, first, "Gave up.")).counted
    web.service.release.set()
    failed = await web.until(job, state="failed")
    assert failed["failureReason"] == "Gave up."


async def test_estimates_and_works_name_the_fee(web: Web) -> None:
    _, said = await web.call("POST", "/api/estimate", {"work": "looked-at", "input": {}})
    assert (said["estimateSats"], said["evaluationFeeSats"]) == (100, 10)
    _, said = await web.call("POST", "/api/estimate", {"work": "echo", "input": {}})
    assert "evaluationFeeSats" not in said
    _, works = await web.call("GET", "/api/works")
    fees = {work["name"]: work.get("evaluationFeeSats") for work in works["works"]}
    assert (fees["looked-at"], fees["looked-at-free"], fees["echo"]) == (10, 0, None)


async def looking(web: Web, verdict: dict[str, Any], paid_msat: int | None = None) -> tuple[dict[str, Any], Evaluation]:
    """A job whose first run of the evaluator waits for `release`."""
    job = await web.buy("looked-at", {"verdict": verdict, "holdLook": True})
    web.pay(job, paid_msat)
    async with asyncio.timeout(PATIENCE_S):
        await web.service.looked.wait()
    return job, Evaluation(job["id"], "looked-at", {}, 100, 1, 0)


def terms(web: Web) -> Terms:
    return Terms(web.gateway.rules, web.gateway.catalogue.pool.share_of_revenue, web.gateway.invoice_limits, "memo")


async def test_a_new_run_waits_for_the_end_of_the_one_before(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    job, run = await looking(web, {"accept": True})
    lock_subjects, begun = evaluate._lock_subjects, []

    async def begin_meanwhile(conn: Any, row: Any) -> None:
        await lock_subjects(conn, row)
        begun.append(asyncio.create_task(evaluate.begin(web.gateway.pool, job["id"])))
        async with asyncio.timeout(PATIENCE_S):  # until it waits for our lock
            while not await web.gateway.pool.fetchval(
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
            ):
                await asyncio.sleep(0.01)

    monkeypatch.setattr(evaluate, "_lock_subjects", begin_meanwhile)
    assert (await evaluate.accept(web.gateway.pool, run, 70, terms(web))).counted
    assert await begun[0] is None
    assert (await web.job(job))["evaluation"]["outcome"] == "accepted"


async def test_an_invoice_that_lnd_cancelled_unseen_is_replaced_once(web: Web) -> None:
    job, run = await looking(web, {"accept": True})
    answered = await evaluate.accept(web.gateway.pool, run, 70, terms(web))
    assert answered.planned is not None
    # LND has it, we never heard so, and it ran out meanwhile: cancelled there, planned here.
    await web.node.add_invoice(answered.planned.preimage, 70_000, "memo", 600)
    await web.node.cancel_invoice(answered.planned.payment_hash)
    replaced = await asyncio.gather(
        *(evaluate.unopened_invoice(web.gateway.pool, answered.planned.payment_hash, can_open=False) for _ in range(4))
    )
    assert sum(planned is not None for planned in replaced) <= 1  # the gateway's own sweep may have been quicker
    planned = await web.gateway.pool.fetch(
        "select state from invoices where job_id = $1 and purpose = 'work' and state <> 'canceled'", job["id"]
    )
    assert len(planned) == 1
    assert (await web.job(job))["state"] == "awaiting_work_payment"


async def test_free_work_that_failed_after_a_paid_look_does_not_show_the_fee_as_its_price(web: Web) -> None:
    await fund(web, 1000)
    await rank(web, "half", ALICE)
    job = await buy_as(web, ALICE, "looked-at", {"verdict": {"accept": True, "estimateSats": 60}, "fail": True})
    await rank(web, "all", ALICE)
    web.pay(job)
    failed = await web.until(job, state="failed")
    assert (failed["serve"], "invoice" in failed) == ("free", False)
    told = story(JobView.model_validate(failed))
    assert [(line.label, line.amount_sats) for line in told.receipt] == [
        ("The look at your input cost you", 10),
        ("The work cost you", 0),
    ]


async def test_an_overpaid_look_and_an_unpaid_job_were_not_too_late(web: Web) -> None:
    job = await web.buy("looked-at", {"verdict": {"accept": True}})
    web.pay(job, 12_000)
    await opened(web, job)
    _, ended = await web.call("POST", f"/api/jobs/{job['id']}/cancel", token=job["token"])
    told = story(JobView.model_validate(ended))
    assert told.headline == "This job ended unpaid"
    assert "cost you 10 sats. What you paid above that, 2 sats, waits for you" in told.text


@pytest.mark.parametrize("reason", ["\ud800", "a\x00b"])
def test_a_reason_that_can_not_be_kept_is_no_answer(reason: str) -> None:
    assert isinstance(read_verdict({"accept": False, "reason": reason}, 100), WorkFailed)


async def test_who_watches_hears_of_the_second_invoice(web: Web) -> None:
    job = await web.buy("looked-at", {"verdict": {"accept": True}})
    headers = {"Authorization": f"Bearer {job['token']}"}
    async with (
        asyncio.timeout(PATIENCE_S),
        web.http.get(f"{web.url}/api/jobs/{job['id']}/events", headers=headers) as events,
    ):
        web.pay(job)
        async for line in events.content:
            if line.startswith(b"data: "):
                seen = json.loads(line[6:])
                if seen["state"] == "awaiting_work_payment" and "invoice" in seen:
                    break
    assert seen["invoice"]["amountSats"] == 100
