"""A paid job, end to end, on real bitcoind and LND. The payer's own channel balance is the truth."""

from __future__ import annotations

import asyncio

import pytest

from lightning.regtest.control import AsyncControl, NodeError
from lightning.regtest.network import Network
from tests.gateways import Buyer, GatewayProcess
from tests.services import WorkService
from tests.waiting import PATIENCE_S

PDF = "markdown-pdf"
TEXT = {"markdown": "# Hello\n\n" + "A paragraph of some length. " * 60, "title": "Hello"}


async def take_refund(buyer: Buyer, payer: AsyncControl, job: dict[str, object]) -> int:
    """Claim what is owed with an invoice of the payer; the sats that arrived."""
    owed = int(str((await buyer.job(job))["refundAmountSats"]))
    back = await payer.invoice(owed, memo="back to me")
    status, answer = await buyer.refund(job, back)
    assert status == 202, answer
    await buyer.until(job, refundState="paid", refundAmountSats=owed)
    return owed


async def test_paid_worked_refunded(buyer: Buyer, payer: AsyncControl) -> None:
    before = await payer.settled_balance_msat()
    job = await buyer.buy(PDF, TEXT)
    assert job["state"] == "awaiting_work_payment"
    await payer.pay(job["invoice"]["paymentRequest"])
    done = await buyer.until(job, state="complete", refundState="pending")
    charge, owed = done["userChargeSats"], done["refundAmountSats"]
    assert done["estimateSats"] == charge + owed
    assert 0 < charge < done["estimateSats"]
    assert await take_refund(buyer, payer, job) == owed
    assert before - await payer.settled_balance_msat() == charge * 1000


async def test_a_destination_given_in_advance_is_paid_without_asking(buyer: Buyer, payer: AsyncControl) -> None:
    before = await payer.settled_balance_msat()
    back = await payer.invoice(0, memo="any amount")
    job = await buyer.buy("echo", {"cost": 30}, refundTo=back)
    await payer.pay(job["invoice"]["paymentRequest"])
    await buyer.until(job, state="complete", refundState="paid", refundAmountSats=70)
    assert before - await payer.settled_balance_msat() == 30_000


async def test_work_that_fails_is_refunded_in_full(buyer: Buyer, payer: AsyncControl) -> None:
    before = await payer.settled_balance_msat()
    job = await buyer.buy("echo", {"fail": True})
    await payer.pay(job["invoice"]["paymentRequest"])
    failed = await buyer.until(job, state="failed", refundState="pending", refundAmountSats=100)
    assert failed["failureReason"]
    await take_refund(buyer, payer, job)
    assert await payer.settled_balance_msat() == before


async def test_an_overpayment_comes_back_too(buyer: Buyer, payer: AsyncControl) -> None:
    """Ten percent over, by a payer that raises the amount of its HTLC."""
    before = await payer.settled_balance_msat()
    job = await buyer.buy("echo", {"cost": 40})
    await payer.overpay(job["invoice"]["paymentRequest"], amount_msat=110_000)
    await buyer.until(job, state="complete", refundState="pending", refundAmountSats=70, userChargeSats=40)
    await take_refund(buyer, payer, job)
    assert before - await payer.settled_balance_msat() == 40_000


async def test_a_cost_above_the_cap_is_the_operators_loss(buyer: Buyer, payer: AsyncControl) -> None:
    before = await payer.settled_balance_msat()
    job = await buyer.buy("echo", {"cost": 250})
    await payer.pay(job["invoice"]["paymentRequest"])
    await buyer.until(job, state="complete", userChargeSats=100, refundState="none", refundAmountSats=0)
    assert before - await payer.settled_balance_msat() == 100_000


async def test_a_cancelled_job_can_not_be_paid(buyer: Buyer, payer: AsyncControl) -> None:
    job = await buyer.buy("echo", {})
    status, cancelled = await buyer.call("POST", f"/api/jobs/{job['id']}/cancel", token=job["token"])
    assert (status, cancelled["state"]) == (200, "expired")
    assert not (await payer.pay(job["invoice"]["paymentRequest"])).succeeded


async def test_a_paid_job_can_not_be_cancelled(buyer: Buyer, payer: AsyncControl) -> None:
    job = await buyer.buy("echo", {})
    await payer.pay(job["invoice"]["paymentRequest"])
    status, problem = await buyer.call("POST", f"/api/jobs/{job['id']}/cancel", token=job["token"])
    assert (status, problem["code"]) == (409, "job_not_cancelable")
    await buyer.until(job, state="complete")


async def test_an_expired_invoice_leaves_nothing_behind(
    running_gateway: GatewayProcess, buyer: Buyer, payer: AsyncControl
) -> None:
    await running_gateway.stop()
    running_gateway.env["BOLTWORKS_INVOICE_EXPIRY_S"] = "10"
    await running_gateway.start()
    job = await buyer.buy("echo", {})
    expired = await buyer.until(job, state="expired")
    assert expired["invoice"]["state"] == "canceled"
    assert (expired["refundState"], expired["refundAmountSats"]) == ("none", 0)
    with pytest.raises(NodeError, match="expired"):
        await payer.pay(job["invoice"]["paymentRequest"])


async def test_lnd_restarted_between_invoice_and_payment(buyer: Buyer, payer: AsyncControl, regtest: Network) -> None:
    job = await buyer.buy("echo", {"cost": 5})
    await asyncio.to_thread(regtest.kill, "gateway")
    status, problem = await buyer.call("POST", "/api/jobs", {"work": "echo", "input": {}})
    assert (status, problem["code"]) == (503, "node_unavailable")
    await asyncio.to_thread(regtest.start, "gateway")
    await asyncio.to_thread(regtest.wait_ready, "gateway")
    await asyncio.to_thread(regtest.wait_channels)
    await payer.pay(job["invoice"]["paymentRequest"])
    await buyer.until(job, state="complete", userChargeSats=5)


async def test_gateway_killed_between_payment_and_work(
    running_gateway: GatewayProcess, buyer: Buyer, payer: AsyncControl, service: WorkService
) -> None:
    job = await buyer.buy("echo", {"cost": 7, "hold": True})
    await payer.pay(job["invoice"]["paymentRequest"])
    await service.arrived.wait()
    await running_gateway.kill()
    service.release.set()
    await running_gateway.start()
    await buyer.until(job, state="complete", userChargeSats=7)
    assert set(service.keys) == {job["id"]}


async def test_paid_while_the_gateway_is_down(
    running_gateway: GatewayProcess, buyer: Buyer, payer: AsyncControl
) -> None:
    job = await buyer.buy("echo", {"cost": 7})
    await running_gateway.kill()
    await payer.pay(job["invoice"]["paymentRequest"])
    await running_gateway.start()
    await buyer.until(job, state="complete", userChargeSats=7)


async def test_sigterm_hands_running_work_back(
    running_gateway: GatewayProcess, buyer: Buyer, payer: AsyncControl, service: WorkService
) -> None:
    job = await buyer.buy("echo", {"cost": 3, "hold": True})
    await payer.pay(job["invoice"]["paymentRequest"])
    await service.arrived.wait()
    assert await running_gateway.stop(timeout_s=PATIENCE_S) == 0
    assert "work handed back" in (log := running_gateway.log.read_text())
    assert "ending without it" not in log
    service.release.set()
    await running_gateway.start()
    await buyer.until(job, state="complete", userChargeSats=3)
