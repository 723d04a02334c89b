"""Refunds through the API, on a node that answers what a test says: each arrives once, whatever the node does."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Interface
from typing import Any

import pytest

from gateway.jobs.create import open_at_node, plan_invoice, store_invoices
from gateway.jobs.decisions import Purpose
from gateway.refunds.attempt import Attempt
from gateway.refunds.executor import RefundExecutor
from lightning import bolt11
from lightning.types import Failed, FailureReason, InFlight, NotFound, Unknown
from tests.waiting import PATIENCE_S
from tests.web.at_the_send import at_the_send
from tests.web.conftest import Web

REFUSED = Failed(FailureReason.INCORRECT_PAYMENT_DETAILS, 0)


async def paid_out_msat(web: Web) -> int:
    return int(
        await web.gateway.pool.fetchval(
            "select coalesce(sum(amount_msat), 0) from transfers where cause_kind = 'refund_paid'"
        )
    )


@pytest.mark.parametrize("amount", [70, 0])
async def test_an_exact_or_amountless_invoice_is_paid_once(web: Web, amount: int) -> None:
    job = await web.owing()
    invoice = web.invoice(amount)
    status, _ = await web.refund(job, invoice)
    assert status == 202
    await web.until(job, refundState="paid", refundAmountSats=70)
    assert web.sends(invoice) == 1
    assert web.node.sent[0].amount_msat == 70_000
    assert web.node.sent[0].fee_limit_msat == 10_000
    assert await paid_out_msat(web) == 70_000


async def test_an_upper_case_invoice_with_its_scheme_is_read(web: Web) -> None:
    job = await web.owing()
    status, _ = await web.refund(job, "LIGHTNING:" + web.invoice(70).upper())
    assert status == 202
    await web.until(job, refundState="paid")


@pytest.mark.parametrize("amount", [69, 71, 100])
async def test_another_amount_is_refused_with_the_right_one(web: Web, amount: int) -> None:
    job = await web.owing()
    status, problem = await web.refund(job, web.invoice(amount))
    assert (status, problem["code"], problem["refundAmountSats"]) == (422, "destination_wrong_amount", 70)
    assert "70 sats" in problem["detail"]
    assert web.node.sent == []


async def test_what_can_not_be_paid_has_its_own_code(web: Web) -> None:
    job = await web.owing()
    own = await web.buy("echo", {})
    cases = {
        "destination_expired": web.invoice(70, expiry_s=5),
        "destination_own_node": own["invoice"]["paymentRequest"],
        "destination_timelock": web.invoice(70, min_final_cltv=1000),
        "destination_invalid": "lnbcrt1nothing",
    }
    for code, invoice in cases.items():
        status, problem = await web.refund(job, invoice)
        assert (status, problem["code"]) == (422, code)
    assert (await web.job(job))["refundState"] == "pending"


async def test_an_invoice_is_used_once_for_ever(web: Web) -> None:
    first, second = await web.owing(), await web.owing()
    invoice = web.invoice(70)
    await web.refund(first, invoice)
    await web.until(first, refundState="paid")
    status, problem = await web.refund(second, invoice)
    assert (status, problem["code"]) == (409, "destination_used")
    assert web.sends(invoice) == 1


async def test_one_invoice_for_two_jobs_at_once_pays_one(web: Web) -> None:
    first, second = await web.owing(), await web.owing()
    web.node.next_outcomes.append(InFlight())
    invoice = web.invoice(70)
    answers = await asyncio.gather(web.refund(first, invoice), web.refund(second, invoice))
    assert sorted(status for status, _ in answers) == [202, 409]
    await until_sent(web)
    web.node.resolve(bolt11.read(invoice).payment_hash)
    winner = first if answers[0][0] == 202 else second
    await web.until(winner, refundState="paid")
    assert web.sends(invoice) == 1


async def test_asking_again_with_the_same_invoice_is_the_same_refund(web: Web) -> None:
    job = await web.owing()
    invoice = web.invoice(70)
    answers = await asyncio.gather(*(web.refund(job, invoice) for _ in range(8)))
    assert {status for status, _ in answers} == {202}
    await web.until(job, refundState="paid", refundAmountSats=70)
    assert (await web.refund(job, invoice))[0] == 202
    assert web.sends(invoice) == 1


async def test_two_invoices_at_once_pay_one(web: Web) -> None:
    job = await web.owing()
    web.node.next_outcomes.append(InFlight())
    one, two = web.invoice(70), web.invoice(70)
    answers = await asyncio.gather(web.refund(job, one), web.refund(job, two))
    assert sorted(status for status, _ in answers) == [202, 409]
    assert next(body["code"] for status, body in answers if status == 409) == "refund_in_progress"
    await until_sent(web)
    web.node.resolve(web.node.sent[0].payment_hash)
    await web.until(job, refundState="paid")
    assert len(web.node.sent) == 1
    assert await paid_out_msat(web) == 70_000


async def test_nothing_owed(web: Web) -> None:
    job = await web.paid({"cost": 100})
    await web.until(job, state="complete")
    status, problem = await web.refund(job, web.invoice(1))
    assert (status, problem["code"]) == (409, "nothing_to_refund")


async def test_a_destination_given_while_the_job_runs_is_kept_and_paid_when_owed(web: Web) -> None:
    job = await web.paid({"cost": 60, "hold": True})
    await web.until(job, state="executing")
    invoice = web.invoice(0)
    status, running = await web.refund(job, invoice)
    assert (status, running["refundState"], running["refundTo"]) == (202, "none", invoice)
    web.service.release.set()
    await web.until(job, state="complete", refundState="paid", refundAmountSats=40)
    assert web.sends(invoice) == 1


async def test_a_kept_destination_of_the_wrong_amount_waits_and_says_why(web: Web) -> None:
    job = await web.paid({"cost": 60}, refundTo=web.invoice(41))
    await web.until(job, state="complete", refundState="pending")
    async with asyncio.timeout(PATIENCE_S):
        while "40 sats" not in (await web.job(job)).get("refundProblem", ""):
            await asyncio.sleep(0.05)
    await web.refund(job, web.invoice(40))
    await web.until(job, refundState="paid", refundAmountSats=40)


async def test_an_unknown_outcome_is_tracked_not_repeated(web: Web) -> None:
    job = await web.owing()
    web.node.next_outcomes.append(Unknown("the stream broke"))
    invoice = web.invoice(70)
    await web.refund(job, invoice)
    await until_sent(web)
    assert (await web.job(job))["refundState"] == "paying"
    web.node.resolve(bolt11.read(invoice).payment_hash)
    await web.until(job, refundState="paid")
    assert web.sends(invoice) == 1


async def test_a_send_that_never_reached_the_node_is_sent_again_with_the_same_hash(web: Web) -> None:
    job = await web.owing()
    web.node.next_outcomes.append(NotFound())
    invoice = web.invoice(70)
    await web.refund(job, invoice)
    await web.until(job, refundState="paid")
    assert web.sends(invoice) == len(web.node.sent) == 2
    assert await paid_out_msat(web) == 70_000


async def test_a_terminal_failure_frees_the_debt_for_a_new_destination(web: Web) -> None:
    job = await web.owing()
    web.node.next_outcomes.append(REFUSED)
    await web.refund(job, web.invoice(70))
    failed = await web.until(job, refundState="pending", refundProblem=(await wait_problem(web, job)))
    assert failed["refundAmountSats"] == 70
    second = web.invoice(70)
    assert (await web.refund(job, second))[0] == 202
    await web.until(job, refundState="paid")
    assert web.sends(second) == 1
    assert await paid_out_msat(web) == 70_000


async def wait_problem(web: Web, job: dict[str, Any]) -> str:
    async with asyncio.timeout(PATIENCE_S):
        while not (problem := (await web.job(job)).get("refundProblem")):
            await asyncio.sleep(0.05)
    return str(problem)


async def test_no_route_is_tried_again(web: Web) -> None:
    job = await web.owing()
    web.node.next_outcomes.append(Failed(FailureReason.NO_ROUTE, 0))
    invoice = web.invoice(70)
    await web.refund(job, invoice)
    await web.until(job, refundState="paid")
    assert web.sends(invoice) == 2
    assert await paid_out_msat(web) == 70_000


async def test_a_node_that_forgot_the_payment_freezes_the_refund(web: Web) -> None:
    job = await web.owing()
    web.node.next_outcomes.append(InFlight())
    invoice = web.invoice(70)
    await web.refund(job, invoice)
    await until_attempt(web, "update_seen")
    web.node.forget_payments()
    await until_attempt(web, "state = 'frozen'")
    assert (await web.job(job))["refundState"] == "paying"
    status, problem = await web.refund(job, web.invoice(70))
    assert (status, problem["code"]) == (409, "refund_in_progress")
    assert web.sends(invoice) == 1


async def until_sent(web: Web) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not web.node.sent:
            await asyncio.sleep(0.02)


async def until_attempt(web: Web, condition: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await web.gateway.pool.fetchval(f"select true from refund_attempts where {condition}"):  # noqa: S608
            await asyncio.sleep(0.05)


async def test_a_node_that_is_away_changes_nothing(web: Web) -> None:
    job = await web.owing()
    invoice = web.invoice(70)
    web.node.go_unavailable()
    assert (await web.refund(job, invoice))[1]["code"] == "node_unavailable"
    web.node.come_back()
    await web.refund(job, invoice)
    web.node.go_unavailable()
    await asyncio.sleep(0)
    web.node.come_back()
    await web.until(job, refundState="paid")
    assert await paid_out_msat(web) == 70_000


async def test_three_executors_send_once(web: Web) -> None:
    """However many processes look, the lease lets one send."""
    jobs = [await web.owing() for _ in range(5)]
    g = web.gateway
    others = [
        asyncio.create_task(RefundExecutor(g.pool, g.node, g.metrics, 6.0, 432, 16, asyncio.Event()).run())
        for _ in range(2)
    ]
    invoices = [web.invoice(70) for _ in jobs]
    await asyncio.gather(*(web.refund(job, invoice) for job, invoice in zip(jobs, invoices, strict=True)))
    for job in jobs:
        await web.until(job, refundState="paid")
    for other in others:
        other.cancel()
    assert [web.sends(invoice) for invoice in invoices] == [1] * 5
    assert await paid_out_msat(web) == 350_000


async def test_a_task_that_outlived_its_lease_writes_nothing(web: Web) -> None:
    """Its lease lapsed and another holds the attempt: what it still believes changes no row."""
    job = await web.owing()
    web.node.next_outcomes.append(InFlight())
    invoice = web.invoice(70)
    await web.refund(job, invoice)
    await until_attempt(web, "update_seen")
    pool = web.gateway.pool
    await pool.execute("update refund_attempts set lease_owner = 'later', lease_until = now() + interval '1 hour'")
    row = await pool.fetchrow("select *, now() as now from refund_attempts")
    g = web.gateway
    stale = RefundExecutor(pool, g.node, g.metrics, 6.0, 432, 16, asyncio.Event())
    web.node.resolve(bolt11.read(invoice).payment_hash)
    await stale.advance(Attempt(row), "earlier")
    after = await pool.fetchrow("select state, sends, failed_sends, lease_owner from refund_attempts")
    assert tuple(after) == ("unfinished", 1, 0, "later")
    await pool.execute("update refund_attempts set lease_until = now()")
    await web.until(job, refundState="paid")
    assert await paid_out_msat(web) == 70_000


async def test_the_fee_limit_is_never_more_than_the_refund(web: Web) -> None:
    job = await web.owing(cost=97)
    await web.refund(job, web.invoice(3))
    await web.until(job, refundState="paid")
    assert web.node.sent[0].fee_limit_msat == 3_000


async def test_a_paid_invoice_does_not_pass_for_a_second_debt(web: Web) -> None:
    job = await web.owing()
    invoice = web.invoice(70)
    await web.refund(job, invoice)
    await web.until(job, refundState="paid")
    async with web.gateway.pool.acquire() as conn, conn.transaction():
        planned = plan_invoice(100, "a second invoice of the job", 600)
        await store_invoices(conn, [(str(job["id"]), IPv4Interface("127.0.0.1/32"), planned, Purpose.WORK)])
    await open_at_node(web.gateway.pool, web.node, planned)
    web.node.settle(planned.payment_hash)
    await web.until(job, refundState="pending", refundAmountSats=100)
    status, problem = await web.refund(job, invoice)
    assert (status, problem["code"]) == (409, "destination_used")
    await web.refund(job, web.invoice(100))
    await web.until(job, refundState="paid", refundAmountSats=170)


async def test_a_refund_takes_an_idempotency_key(web: Web) -> None:
    job = await web.owing()
    path, body = f"/api/jobs/{job['id']}/refund", {"destination": web.invoice(70)}
    short = await web.call("POST", path, body, token=job["token"], headers={"Idempotency-Key": "short"})
    assert (short[0], short[1]["code"]) == (400, "idempotency_key_invalid")
    key = {"Idempotency-Key": "a-key-of-twenty-characters"}
    first = await web.call("POST", path, body, token=job["token"], headers=key)
    assert first[0] == 202
    await web.until(job, refundState="paid")
    assert await web.call("POST", path, body, token=job["token"], headers=key) == first
    other = await web.call("POST", path, {"destination": web.invoice(70)}, token=job["token"], headers=key)
    assert (other[0], other[1]["code"]) == (422, "idempotency_key_reused")


async def test_an_invoice_valid_for_years_is_refused(web: Web) -> None:
    job = await web.owing()
    status, problem = await web.refund(job, web.invoice(70, expiry_s=10 * 365 * 86_400))
    assert (status, problem["code"]) == (422, "destination_invalid")


async def test_a_bad_destination_with_a_key_leaves_no_row(web: Web) -> None:
    job = await web.owing()
    path, key = f"/api/jobs/{job['id']}/refund", {"Idempotency-Key": "a-key-of-twenty-characters"}
    status, problem = await web.call("POST", path, {"destination": "lnbcrt1x"}, token=job["token"], headers=key)
    assert (status, problem["code"]) == (422, "destination_invalid")
    assert await web.gateway.pool.fetchval("select count(*) from idempotency_keys") == 0


async def test_a_send_is_not_repeated_on_another_nodes_history(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was ever seen of the send, and the node is not the one that it was made with."""
    at_the_send(web, monkeypatch, "update refund_attempts set node_pubkey = 'another node'")
    job = await web.owing()
    web.node.next_outcomes.append(NotFound())
    invoice = web.invoice(70)
    await web.refund(job, invoice)
    await until_attempt(web, "state = 'frozen'")
    assert web.sends(invoice) == 1
