"""The free tier on real nodes; the payer's own channel balance is what counts."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest_asyncio

from lightning.regtest.control import AsyncControl
from tests.gateways import GatewayProcess
from tests.known import Known
from tests.services import WorkService


class Visitor(Known):
    """A buyer of the free tier."""

    async def start(self, tier: str, pool_sats: int) -> None:
        await self.operator("POST", "pool/topups", {"amountSats": pool_sats})
        await self.rank(tier)

    async def ask(self, work_input: dict[str, Any], work: str = "echo") -> dict[str, Any]:
        return await self.sign("/api/jobs", {"work": work, "input": work_input})

    async def pool_sats(self) -> tuple[int, int]:
        _, pool = await self.call("GET", "/api/pool")
        return pool["balanceSats"], pool["reservedSats"]


@pytest_asyncio.fixture
async def known(http: aiohttp.ClientSession, gateway: GatewayProcess) -> Visitor:
    return Visitor(http, gateway.url)


async def back(known: Visitor, payer: AsyncControl, job: dict[str, Any], owed_sats: int) -> None:
    status, answer = await known.refund(job, await payer.invoice(owed_sats, memo="back to me"))
    assert status == 202, answer
    await known.until(job, refundState="paid", refundAmountSats=owed_sats)


async def test_a_free_job_costs_the_payer_nothing(known: Visitor, payer: AsyncControl) -> None:
    before = await payer.settled_balance_msat()
    await known.start("all", 100)
    job = await known.ask({"cost": 40})
    assert job["serve"] == "free"
    await known.until(job, state="complete", absorbedSats=40, userChargeSats=0, refundState="none")
    assert await known.pool_sats() == (60, 0)
    assert await payer.settled_balance_msat() == before


async def test_a_partial_job_is_refunded_to_the_sat(known: Visitor, payer: AsyncControl) -> None:
    before = await payer.settled_balance_msat()
    await known.start("half", 60)
    job = await known.ask({"cost": 70})
    assert (job["serve"], job["invoice"]["amountSats"]) == ("partial", 50)
    await payer.pay(job["invoice"]["paymentRequest"])
    await known.until(job, state="complete", absorbedSats=50, userChargeSats=20, refundAmountSats=30)
    await back(known, payer, job, 30)
    assert before - await payer.settled_balance_msat() == 20_000
    assert await known.pool_sats() == (11, 0)


async def test_a_pool_drained_between_invoice_and_payment(
    known: Visitor, payer: AsyncControl, service: WorkService
) -> None:
    before = await payer.settled_balance_msat()
    await known.start("half", 50)
    late = await known.ask({"cost": 70})
    first = await known.ask({"cost": 50, "first": True})
    await payer.pay(first["invoice"]["paymentRequest"])
    await known.until(first, state="complete", absorbedSats=50, userChargeSats=0)
    await back(known, payer, first, 50)
    await payer.pay(late["invoice"]["paymentRequest"])
    await known.until(late, state="failed", refundState="pending", refundAmountSats=50)
    await back(known, payer, late, 50)
    assert await payer.settled_balance_msat() == before
    assert [order["input"].get("first") for order in service.orders] == [True]


async def test_an_abandoned_partial_invoice_leaves_the_pool_untouched(known: Visitor) -> None:
    await known.start("half", 50)
    job = await known.ask({})
    assert await known.pool_sats() == (50, 0)
    status, _ = await known.call("POST", f"/api/jobs/{job['id']}/cancel", token=job["token"])
    assert status == 200
    assert await known.pool_sats() == (50, 0)
    assert (await known.operator("GET", "grants"))["items"] == []


async def test_ten_payments_race_for_a_pool_that_holds_three(
    known: Visitor, payer: AsyncControl, service: WorkService
) -> None:
    before = await payer.settled_balance_msat()
    await known.start("half", 150)
    jobs = [await known.ask({"cost": 100, "hold": True, "n": n}) for n in range(10)]
    await asyncio.gather(*(payer.pay(job["invoice"]["paymentRequest"]) for job in jobs))
    failed: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while len(failed) < 7:
            failed = [job for job in jobs if (await known.job(job))["state"] == "failed"]
    service.release.set()
    for job in failed:
        await back(known, payer, job, 50)
    ran = [job for job in jobs if job not in failed]
    for job in ran:
        await known.until(job, state="complete", absorbedSats=50, userChargeSats=50, refundState="none")
    assert len(ran) == 3
    assert before - await payer.settled_balance_msat() == 3 * 50_000


async def payable(known: Visitor, job: dict[str, Any], amount_sats: int) -> str:
    """The invoice of an evaluated job's work, once LND made it."""
    async with asyncio.timeout(60):
        while (seen := await known.job(job)).get("invoice", {}).get("amountSats") != amount_sats:
            await asyncio.sleep(0.05)
    return str(seen["invoice"]["paymentRequest"])


async def test_a_look_that_is_paid_for_and_then_the_work_at_the_price_that_it_found(
    known: Visitor, payer: AsyncControl
) -> None:
    before = await payer.settled_balance_msat()
    job = await known.buy("looked-at", {"verdict": {"accept": True, "estimateSats": 60}, "cost": 45})
    await payer.pay(job["invoice"]["paymentRequest"])
    await payer.pay(await payable(known, job, 60))
    await known.until(job, state="complete", userChargeSats=45, refundAmountSats=15)
    await back(known, payer, job, 15)
    assert before - await payer.settled_balance_msat() == 55_000


async def test_a_no_costs_the_fee_and_silence_costs_nothing(known: Visitor, payer: AsyncControl) -> None:
    before = await payer.settled_balance_msat()
    refused = await known.buy("looked-at", {"verdict": {"accept": False, "reason": "Too blurred."}})
    await payer.pay(refused["invoice"]["paymentRequest"])
    await known.until(refused, state="rejected", refundState="none", failureReason="Too blurred.")
    silent = await known.buy("looked-at", {})
    await payer.pay(silent["invoice"]["paymentRequest"])
    await known.until(silent, state="failed", refundState="pending", refundAmountSats=10)
    await back(known, payer, silent, 10)
    assert before - await payer.settled_balance_msat() == 10_000


async def test_the_pool_pays_for_the_look_and_the_work_of_whom_it_serves_free(
    known: Visitor, payer: AsyncControl
) -> None:
    before = await payer.settled_balance_msat()
    await known.start("all", 200)
    job = await known.ask({"verdict": {"accept": True, "estimateSats": 60}, "cost": 45}, "looked-at")
    await known.until(job, state="complete", absorbedSats=45, userChargeSats=0, refundState="none")
    assert await known.pool_sats() == (145, 0)
    assert await payer.settled_balance_msat() == before


async def test_killed_while_it_looks(
    known: Visitor, payer: AsyncControl, gateway: GatewayProcess, service: WorkService
) -> None:
    before = await payer.settled_balance_msat()
    job = await known.buy("looked-at", {"verdict": {"accept": True, "estimateSats": 60}, "cost": 60, "holdLook": True})
    await payer.pay(job["invoice"]["paymentRequest"])
    async with asyncio.timeout(60):
        await service.looked.wait()
    await gateway.kill()
    service.release.set()
    await gateway.start()
    await payer.pay(await payable(known, job, 60))
    await known.until(job, state="complete", userChargeSats=60, refundState="none")
    assert before - await payer.settled_balance_msat() == 70_000
