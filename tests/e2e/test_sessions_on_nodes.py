"""Sessions on real nodes: the payer's own channel balance and the statement agree to the sat."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio

from lightning.regtest.control import AsyncControl
from tests.gateways import GatewayProcess, gateway_process
from tests.known import Holder
from tests.services import WorkService


@pytest_asyncio.fixture
async def holder(http: aiohttp.ClientSession, gateway: GatewayProcess) -> Holder:
    return Holder(http, gateway.url)


async def charged(holder: Holder, work_input: dict[str, Any], serve: str, work: str = "echo") -> int:
    status, answer = await holder.ask(work_input, work)
    assert (status, answer.get("serve")) == (200, serve), answer
    assert answer["chargedSats"] + answer["absorbedSats"] == answer["actualCostSats"]
    return int(answer["chargedSats"])


async def test_deposit_ten_requests_topup_close_refund(holder: Holder, payer: AsyncControl) -> None:
    before = await payer.settled_balance_msat()
    await holder.operator("POST", "pool/topups", {"amountSats": 1000})
    await payer.pay((await holder.open(300))["invoice"]["paymentRequest"])
    await holder.reaches(state="active", balanceSats=300)
    spent = 0
    for tier, serve in (("new", "gate"), ("half", "partial"), ("all", "free")):
        await holder.rank(tier)
        for cost in (0, 20, 70):
            spent += await charged(holder, {"cost": cost}, serve)
    assert spent == 90 + 20  # gate: all of it; partial: what exceeds the 50 that the pool advised
    await holder.rank("new")
    spent += await charged(holder, {"markdown": "# Hello", "title": "Hello"}, "gate", "markdown-pdf")

    status, added = await holder.own("POST", "/topups", {"amountSats": 111})
    assert status == 201, added
    await payer.pay(added["invoice"]["paymentRequest"])
    rest = 300 + 111 - spent
    await holder.reaches(balanceSats=rest, heldSats=0)
    back = {"destination": await payer.invoice(rest, memo="the rest"), "refundKey": holder.session["refundKey"]}
    status, closed = await holder.own("POST", "/close", back)
    assert (status, closed["state"]) == (200, "closed")
    await holder.reaches(refundState="paid", refundAmountSats=rest)

    said = await holder.statement()
    assert (said["paidInSats"], said["chargedSats"], said["refundedSats"]) == (411, spent, rest)
    assert sum(item["kind"] == "request" for item in said["items"]) == 10
    assert before - await payer.settled_balance_msat() == spent * 1000


async def test_killed_in_the_middle_every_hold_is_released_or_charged(
    gateway: GatewayProcess, holder: Holder, payer: AsyncControl, service: WorkService
) -> None:
    """Sixty requests on a balance for fifty, a third of them held up at the worker, when the process is killed."""
    before = await payer.settled_balance_msat()
    await payer.pay((await holder.open(5000))["invoice"]["paymentRequest"])
    await holder.reaches(state="active", balanceSats=5000)
    asked = [asyncio.create_task(holder.ask({"cost": 100, "n": n, "hold": n % 3 == 0})) for n in range(60)]
    done: list[Any] = []
    for next_done in asyncio.as_completed(asked):
        done.append(await next_done)
        if len(done) == 20:
            break
    await gateway.kill()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    service.release.set()
    await gateway.start()
    now = await holder.reaches(heldSats=0)
    said = await holder.statement()
    requests = [item for item in said["items"] if item["kind"] == "request"]
    complete = [item for item in requests if item["state"] == "complete"]
    lost = [item for item in requests if item["state"] == "failed"]
    assert all(item["changeSats"] == -100 for item in complete)
    assert all(item["changeSats"] == 0 and item["failureReason"] for item in lost)
    answered = sum(isinstance(answer, tuple) and answer[0] == 200 for answer in answers)
    assert answered <= len(complete)
    assert len(lost) > 0
    assert now["balanceSats"] == 5000 - 100 * len(complete)

    back = {"destination": await payer.invoice(0, memo="the rest"), "refundKey": holder.session["refundKey"]}
    await holder.own("POST", "/close", back)
    await holder.reaches(state="closed", refundState="paid", refundAmountSats=now["balanceSats"])
    assert before - await payer.settled_balance_msat() == 100_000 * len(complete)


async def test_a_process_that_stops_charges_nothing_for_what_it_stopped(
    gateway: GatewayProcess, holder: Holder, payer: AsyncControl, service: WorkService
) -> None:
    await payer.pay((await holder.open(200))["invoice"]["paymentRequest"])
    await holder.reaches(state="active")
    running = asyncio.create_task(holder.ask({"cost": 10, "hold": True}))
    await service.arrived.wait()
    assert await gateway.stop() == 0
    (answer,) = await asyncio.gather(running, return_exceptions=True)
    assert not (isinstance(answer, tuple) and answer[0] == 200)
    service.release.set()
    await gateway.start()
    await holder.reaches(state="active", balanceSats=200, heldSats=0)
    (request,) = [item for item in (await holder.statement())["items"] if item["kind"] == "request"]
    assert (request["state"], request["changeSats"]) == ("failed", 0)


async def test_two_processes_spend_one_balance_once(
    gateway: GatewayProcess, holder: Holder, payer: AsyncControl, service: WorkService, tmp_path: Path
) -> None:
    """Two hundred requests at once, half of them at a second process of the same database; fifty fit."""
    await payer.pay((await holder.open(5000))["invoice"]["paymentRequest"])
    await holder.reaches(state="active", balanceSats=5000)
    folder = tmp_path / "second"
    folder.mkdir()
    async with gateway_process(folder, gateway.dsn, {**gateway.env, "BOLTWORKS_PUBLIC_URL": gateway.url}) as second:
        other = Holder(holder.http, second.url)
        other.session = holder.session
        asked = [asyncio.create_task((holder, other)[n % 2].ask({"cost": 100, "hold": True})) for n in range(200)]
        refused: list[Any] = []
        for next_done in asyncio.as_completed(asked):
            refused.append(await next_done)
            if len(refused) == 150:
                break
        service.release.set()
        answers = await asyncio.gather(*asked)
    assert {status for status, _ in refused} == {402}
    assert len({problem["invoice"]["paymentHash"] for _, problem in refused}) == 1
    assert sum(status == 200 for status, _ in answers) == len(service.orders) == 50
    said = await holder.statement()
    assert (said["chargedSats"], said["balanceSats"], said["heldSats"]) == (5000, 0, 0)


async def test_the_pool_drained_between_decision_and_grant(
    holder: Holder, payer: AsyncControl, service: WorkService
) -> None:
    """The first request was advised all that the pool has; a second one takes it meanwhile: the first pays in full."""
    await holder.operator("POST", "pool/topups", {"amountSats": 50})
    await holder.rank("half")
    await payer.pay((await holder.open(200))["invoice"]["paymentRequest"])
    await holder.reaches(state="active")
    running = asyncio.create_task(holder.ask({"cost": 70, "hold": True}))
    await service.arrived.wait()
    assert await charged(holder, {"cost": 50}, "partial") == 0
    service.release.set()
    status, answer = await running
    assert (status, answer["serve"], answer["absorbedSats"], answer["chargedSats"]) == (200, "partial", 0, 70)
    assert (await holder.reaches(heldSats=0))["balanceSats"] == 130
    assert (await holder.statement())["absorbedSats"] == 50


async def test_what_could_still_be_paid_is_cancelled_when_it_closes(
    holder: Holder, payer: AsyncControl, service: WorkService
) -> None:
    """Its invoice is cancelled at the node: the payer keeps the money."""
    before = await payer.settled_balance_msat()
    await payer.pay((await holder.open(200))["invoice"]["paymentRequest"])
    await holder.reaches(state="active")
    _, added = await holder.own("POST", "/topups", {"amountSats": 50})
    running = asyncio.create_task(holder.ask({"cost": 10, "hold": True}))
    await service.arrived.wait()
    back = {"destination": await payer.invoice(0, memo="the rest"), "refundKey": holder.session["refundKey"]}
    assert (await holder.own("POST", "/close", back))[1]["state"] == "closing"
    assert not (await payer.pay(added["invoice"]["paymentRequest"])).succeeded
    service.release.set()
    assert (await running)[1]["chargedSats"] == 10
    await holder.reaches(state="closed", refundState="paid", refundAmountSats=190)
    assert before - await payer.settled_balance_msat() == 10_000
