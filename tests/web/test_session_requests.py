"""Requests of a session: held in full, debited what they cost, never twice, and nothing is left behind."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from gateway.sessions.request import LOST, end
from gateway.sessions.sweep import forget_results, release_lost
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web
from tests.web.free_tier import ALICE, fund, operator, pool_now, rank, signed
from tests.web.test_sessions import KEY, current, funded, opened, until

REQUESTS = "/api/sessions/current/requests"


async def ask(web: Web, session: dict[str, Any], work_input: dict[str, Any], **more: Any) -> tuple[int, Any]:
    """The work `echo`, whose estimate is 100 sats."""
    headers = more.pop("headers", {})
    body = {"work": "echo", "input": work_input, **more}
    return await web.call("POST", REQUESTS, body, token=session["token"], headers=headers)


async def known(web: Web, sats: int, tier: str, pool_sats: int) -> dict[str, Any]:
    """A funded session of ALICE, who has this tier."""
    await rank(web, tier)
    if pool_sats:
        await fund(web, pool_sats)
    status, session = await signed(web, "POST", "/api/sessions", {"depositSats": sats})
    assert status == 201, session
    web.pay(session)
    await until(web, session, state="active")
    return dict(session)


async def test_it_is_debited_what_it_cost(web: Web) -> None:
    session = await funded(web, 150)
    status, answer = await ask(web, session, {"cost": 30})
    assert status == 200, answer
    assert answer.pop("id")
    assert answer == {
        "result": {"echo": {"cost": 30}},
        "serve": "gate",
        "estimateSats": 100,
        "actualCostSats": 30,
        "absorbedSats": 0,
        "chargedSats": 30,
        "balanceSats": 120,
    }
    now = await current(web, session)
    assert (now["balanceSats"], now["heldSats"]) == (120, 0)
    assert (await pool_now(web))[0] == 1  # floor(0.05 × 30)


async def test_the_full_estimate_is_held_while_it_runs(web: Web) -> None:
    session = await funded(web, 150)
    running = asyncio.create_task(ask(web, session, {"cost": 30, "hold": True}))
    await web.service.arrived.wait()
    now = await current(web, session)
    assert (now["balanceSats"], now["heldSats"]) == (50, 100)
    web.service.release.set()
    assert (await running)[1]["balanceSats"] == 120


async def test_what_exceeds_the_estimate_is_the_operators_loss(web: Web) -> None:
    session = await funded(web, 150)
    _, answer = await ask(web, session, {"cost": 1000})
    assert (answer["actualCostSats"], answer["chargedSats"], answer["balanceSats"]) == (100, 100, 50)
    booked = "select amount_msat from transfers where cause_kind = 'overrun'"
    assert await web.gateway.pool.fetchval(booked) == 900_000


async def test_work_that_fails_costs_nothing(web: Web) -> None:
    session = await funded(web, 150)
    status, problem = await ask(web, session, {"fail": True})
    assert (status, problem["code"]) == (502, "work_failed")
    assert problem["detail"]
    now = await current(web, session)
    assert (now["balanceSats"], now["heldSats"]) == (150, 0)


async def test_a_balance_that_does_not_cover_it_gets_402_and_an_invoice(web: Web) -> None:
    session = await funded(web, 60)
    status, problem = await ask(web, session, {"cost": 1})
    assert (status, problem["code"]) == (402, "balance_too_low")
    assert (problem["estimateSats"], problem["balanceSats"], problem["missingSats"]) == (100, 60, 40)
    assert problem["invoice"]["amountSats"] == 40
    assert web.service.orders == []
    web.pay(problem)
    await until(web, session, balanceSats=100)
    assert (await ask(web, session, {"cost": 1}))[0] == 200


async def test_402_asked_for_again_is_the_same_invoice(web: Web) -> None:
    session = await funded(web, 60)
    answers = await asyncio.gather(*(ask(web, session, {"cost": 1}) for _ in range(30)))
    assert {status for status, _ in answers} == {402}
    assert len({problem["invoice"]["paymentHash"] for _, problem in answers}) == 1
    assert await web.gateway.pool.fetchval("select count(*) from invoices where purpose = 'topup'") == 1


async def test_402_without_an_invoice_when_the_node_is_away(web: Web) -> None:
    session = await funded(web, 60)
    web.node.go_unavailable()
    status, problem = await ask(web, session, {"cost": 1})
    assert (status, problem["missingSats"], problem.get("invoice")) == (402, 40, None)
    web.node.come_back()


async def test_requests_need_no_node(web: Web) -> None:
    session = await funded(web, 100)
    web.node.go_unavailable()
    assert (await ask(web, session, {"cost": 1}))[0] == 200
    web.node.come_back()


async def test_two_hundred_in_parallel_on_a_balance_for_fifty(web: Web) -> None:
    """While those that fit run, none of the others gets in; no sat is spent twice."""
    session = await funded(web, 5000)
    asked = [asyncio.create_task(ask(web, session, {"cost": 100, "hold": True})) for _ in range(200)]
    refused: list[Any] = []
    for next_done in asyncio.as_completed(asked):
        refused.append(await next_done)
        if len(refused) == 150:
            break
    assert {status for status, _ in refused} == {402}
    now = await current(web, session)
    assert (now["balanceSats"], now["heldSats"]) == (0, 5000)
    web.service.release.set()
    answers = await asyncio.gather(*asked)
    assert sum(status == 200 for status, _ in answers) == 50
    assert len(web.service.orders) == 50
    now = await current(web, session)
    assert (now["balanceSats"], now["heldSats"]) == (0, 0)


@pytest.mark.parametrize("where", ["body", "header"])
async def test_above_max_sats_nothing_is_done(web: Web, where: str) -> None:
    session = await funded(web, 200)
    more: dict[str, Any] = {"maxSats": 99} if where == "body" else {"headers": {"X-Max-Sats": "99"}}
    status, problem = await ask(web, session, {"cost": 1}, **more)
    assert (status, problem["code"]) == (422, "max_sats_exceeded")
    assert (problem["estimateSats"], problem["maxSats"]) == (100, 99)
    assert web.service.orders == []
    assert (await current(web, session))["balanceSats"] == 200


async def test_never_charged_above_max_sats(web: Web) -> None:
    session = await funded(web, 200)
    _, answer = await ask(web, session, {"cost": 5000}, maxSats=100, headers={"X-Max-Sats": "150"})
    assert answer["chargedSats"] == 100


@pytest.mark.parametrize("cap", ["x", "-1", "1.5", ""])
async def test_max_sats_is_a_whole_number(web: Web, cap: str) -> None:
    session = await funded(web, 200)
    status, problem = await ask(web, session, {"cost": 1}, headers={"X-Max-Sats": cap})
    assert (status, problem["code"]) == (400, "invalid_request")


async def test_a_session_without_its_deposit_runs_nothing(web: Web) -> None:
    session = await opened(web, 200)
    status, problem = await ask(web, session, {"cost": 1})
    assert (status, problem["code"], problem["state"]) == (409, "session_not_active", "awaiting_deposit")


async def test_evaluated_work_is_not_sold_in_sessions(web: Web) -> None:
    session = await funded(web, 200)
    body = {"work": "looked-at", "input": {}}
    status, problem = await web.call("POST", REQUESTS, body, token=session["token"])
    assert (status, problem["code"]) == (409, "work_not_in_sessions")


async def test_the_same_key_is_run_and_charged_once(web: Web) -> None:
    session = await funded(web, 150)
    first = await ask(web, session, {"cost": 10}, headers=KEY)
    assert first[0] == 200
    assert (await ask(web, session, {"cost": 10}))[1]["balanceSats"] == 130
    assert await ask(web, session, {"cost": 10}, headers=KEY) == first
    await web.gateway.pool.execute(
        "update idempotency_keys set status = null, response = null, lease_until = now() - interval '1 second'"
    )
    assert await ask(web, session, {"cost": 10}, headers=KEY) == first  # its process died before it kept the answer
    assert len(web.service.orders) == 2
    assert (await current(web, session))["balanceSats"] == 130


async def test_the_same_key_after_a_402_runs_when_it_is_covered(web: Web) -> None:
    session = await funded(web, 60)
    _, problem = await ask(web, session, {"cost": 10}, headers=KEY)
    web.pay(problem)
    await until(web, session, balanceSats=100)
    assert (await ask(web, session, {"cost": 10}, headers=KEY))[0] == 200


async def test_a_client_that_goes_away_is_charged_and_finds_its_answer_again(web: Web) -> None:
    session = await funded(web, 150)
    running = asyncio.create_task(ask(web, session, {"cost": 10, "hold": True}, headers=KEY))
    await web.service.arrived.wait()
    running.cancel()
    web.service.release.set()
    await until(web, session, balanceSats=140, heldSats=0)
    async with asyncio.timeout(PATIENCE_S):
        while (found := await ask(web, session, {"cost": 10, "hold": True}, headers=KEY))[0] == 409:
            await asyncio.sleep(0.1)
    assert (found[0], found[1]["chargedSats"]) == (200, 10)
    assert len(web.service.orders) == 1


async def test_one_key_while_it_runs_is_409_also_after_the_claims_lease(web: Web) -> None:
    session = await funded(web, 150)
    running = asyncio.create_task(ask(web, session, {"cost": 10, "hold": True}, headers=KEY))
    await web.service.arrived.wait()
    await web.gateway.pool.execute("update idempotency_keys set lease_until = now() - interval '1 second'")
    status, problem = await ask(web, session, {"cost": 10, "hold": True}, headers=KEY)
    assert (status, problem["code"]) == (409, "idempotency_key_in_use")
    web.service.release.set()
    assert (await running)[0] == 200
    assert len(web.service.orders) == 1


async def test_one_key_twice_at_once_runs_once(web: Web) -> None:
    """Both calls hold the claim, one after the other; the request itself is made once."""
    session = await funded(web, 500)
    async with web.gateway.pool.acquire() as conn, conn.transaction():
        await conn.execute("select from sessions for no key update")
        asked = [asyncio.create_task(ask(web, session, {"cost": 10}, headers=KEY))]
        async with asyncio.timeout(PATIENCE_S):
            while not await web.gateway.pool.fetchval(
                "update idempotency_keys set lease_until = now() - interval '1 second' returning true"
            ):
                await asyncio.sleep(0.02)
        asked.append(asyncio.create_task(ask(web, session, {"cost": 10}, headers=KEY)))
        async with asyncio.timeout(PATIENCE_S):
            while await web.gateway.pool.fetchval("select count(*) from pg_locks where not granted") < 2:
                await asyncio.sleep(0.02)
    codes = sorted([(status, body.get("code")) for status, body in await asyncio.gather(*asked)])
    assert codes == [(200, None), (409, "idempotency_key_in_use")]
    assert len(web.service.orders) == 1
    assert (await current(web, session))["balanceSats"] == 490


async def test_without_room_for_an_invoice_402_says_what_is_missing_all_the_same(web: Web) -> None:
    session = await funded(web, 60)
    for _ in range(20):
        await opened(web, 1)
    status, problem = await ask(web, session, {"cost": 1})
    assert (status, problem["missingSats"], problem.get("invoice")) == (402, 40, None)


async def test_the_lease_of_what_runs_is_renewed(web: Web) -> None:
    session = await funded(web, 150)
    running = asyncio.create_task(ask(web, session, {"cost": 30, "hold": True}))
    await web.service.arrived.wait()
    lease = "select lease_until from session_requests"
    first = await web.gateway.pool.fetchval(lease)
    async with asyncio.timeout(PATIENCE_S):
        while await web.gateway.pool.fetchval(lease) == first:
            await asyncio.sleep(0.1)
    web.service.release.set()
    assert (await running)[0] == 200


async def test_results_are_kept_for_a_day_only(web: Web) -> None:
    session = await funded(web, 150)
    await ask(web, session, {"cost": 30})
    await ask(web, session, {"cost": 30})
    await web.gateway.pool.execute(
        "update session_requests set ended_at = now() - interval '26 hours'"
        " where id = (select id from session_requests limit 1)"
    )
    await forget_results(web.gateway)
    assert await web.gateway.pool.fetchval("select count(*) from session_requests where result is null") == 1


async def test_free_work_is_the_pools(web: Web) -> None:
    session = await known(web, 5, "all", 1000)
    status, answer = await ask(web, session, {"cost": 30})
    assert status == 200, answer
    assert (answer["serve"], answer["absorbedSats"], answer["chargedSats"], answer["balanceSats"]) == ("free", 30, 0, 5)
    assert await pool_now(web) == (970, 0, 30)


async def test_free_work_that_fails_gives_the_pool_its_money_back(web: Web) -> None:
    session = await known(web, 5, "all", 1000)
    assert (await ask(web, session, {"fail": True}))[0] == 502
    assert await pool_now(web) == (1000, 0, 0)


@pytest.mark.parametrize(
    ("cost", "absorbed"),
    [(100, 50), (60, 50), (30, 30), (0, 0), (500, 50)],
)
async def test_partial_absorbs_the_less_of_cost_and_advice(web: Web, cost: int, absorbed: int) -> None:
    session = await known(web, 100, "half", 1000)
    _, answer = await ask(web, session, {"cost": cost})
    charged = min(cost, 100) - absorbed
    assert (answer["serve"], answer["absorbedSats"], answer["chargedSats"]) == ("partial", absorbed, charged)
    assert answer["balanceSats"] == 100 - charged
    assert (await pool_now(web))[1:] == (0, absorbed)


async def test_partial_needs_the_full_estimate_beforehand(web: Web) -> None:
    session = await known(web, 99, "half", 1000)
    status, problem = await ask(web, session, {"cost": 10})
    assert (status, problem["missingSats"]) == (402, 1)


@pytest.mark.parametrize(("left", "absorbed"), [(0, 0), (7, 7)])
async def test_pool_drained_meanwhile_the_user_pays_what_it_can_not(web: Web, left: int, absorbed: int) -> None:
    session = await known(web, 100, "half", 1000)
    running = asyncio.create_task(ask(web, session, {"cost": 80, "hold": True}))
    await web.service.arrived.wait()
    async with web.gateway.pool.acquire() as conn, conn.transaction():
        drained = (1000 - left) * 1000
        await conn.execute(
            "insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)"
            " values ('self_test', 'drained', 'pool', 'capital', $1)",
            drained,
        )
        await conn.execute("update accounts set balance_msat = balance_msat - $1 where code = 'pool'", drained)
    web.service.release.set()
    _, answer = await running
    assert (answer["serve"], answer["absorbedSats"], answer["chargedSats"]) == ("partial", absorbed, 80 - absorbed)
    assert answer["balanceSats"] == 20 + absorbed


async def test_what_was_charged_raises_the_tier_and_nothing_else_does(web: Web) -> None:
    session = await known(web, 150, "new", 0)
    await ask(web, session, {"cost": 30})
    await ask(web, session, {"fail": True})
    (row,) = (await operator(web, "GET", "identities"))["items"]
    assert (row["pubkey"], row["paidSats"]) == (ALICE.pubkey, 30)


async def test_work_that_keeps_failing_slows_its_buyer(web: Web) -> None:
    session = await funded(web, 150)
    for _ in range(5):
        assert (await ask(web, session, {"fail": True}))[0] == 502
    status, problem = await ask(web, session, {"cost": 1})
    assert (status, problem["code"]) == (429, "slowed")


async def test_what_this_process_runs_is_not_lost_however_late_its_lease_is_renewed(web: Web) -> None:
    session = await known(web, 150, "new", 0)
    running = asyncio.create_task(ask(web, session, {"cost": 30, "hold": True}))
    await web.service.arrived.wait()
    await web.gateway.pool.execute("update session_requests set lease_until = now() - interval '1 second'")
    assert await release_lost(web.gateway) == []
    web.service.release.set()
    assert (await running)[0] == 200
    assert (await current(web, session))["balanceSats"] == 120


async def test_what_a_dead_process_held_is_released_once(web: Web) -> None:
    """Its process is gone: nobody renews the lease, and its late result is discarded."""
    session = await known(web, 150, "new", 0)
    running = asyncio.create_task(ask(web, session, {"cost": 30, "hold": True}))
    await web.service.arrived.wait()
    assert await release_lost(web.gateway) == []
    request_id = await web.gateway.pool.fetchval("select id from session_requests")
    assert await end(web.gateway.pool, request_id, None, LOST, web.gateway.rules, Decimal(0)) is None
    assert await end(web.gateway.pool, request_id, "another process", LOST, web.gateway.rules, Decimal(0)) is None
    await web.gateway.pool.execute(
        "update session_requests set owner = 'a dead process', lease_until = now() - interval '1 second'"
    )
    swept = await asyncio.gather(*(release_lost(web.gateway) for _ in range(4)))
    assert sum(len(ids) for ids in swept) <= 1  # the gateway's own sweep may have been quicker
    await until(web, session, balanceSats=150, heldSats=0)
    web.service.release.set()
    status, problem = await running
    assert (status, problem["code"]) == (502, "work_failed")
    assert (await current(web, session))["balanceSats"] == 150
