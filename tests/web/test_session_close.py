"""Top-ups, the statement, and every way in which a session ends: its rest is owed back, once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.sessions import close as closing
from gateway.sessions.close import expire_idle
from ledger.database import Pool
from lightning.node import Node
from tests.web.conftest import Web
from tests.web.free_tier import operator
from tests.web.test_session_requests import ask, known
from tests.web.test_sessions import KEY, current, funded, opened, until

CURRENT = "/api/sessions/current"


async def topup(web: Web, session: dict[str, Any], sats: int, **more: Any) -> dict[str, Any]:
    status, body = await web.call("POST", f"{CURRENT}/topups", {"amountSats": sats}, token=session["token"], **more)
    assert status == 201, body
    return dict(body)


async def close(web: Web, session: dict[str, Any], destination: str | None = None) -> tuple[int, Any]:
    body = None if destination is None else {"destination": destination, "refundKey": session["refundKey"]}
    return await web.call("POST", f"{CURRENT}/close", body, token=session["token"])


async def statement(web: Web, session: dict[str, Any], query: str = "") -> dict[str, Any]:
    status, body = await web.call("GET", f"{CURRENT}/statement{query}", token=session["token"])
    assert status == 200, body
    return dict(body)


def changes(said: dict[str, Any]) -> list[tuple[str, int, int]]:
    return [(item["kind"], item["changeSats"], item["balanceSats"]) for item in said["items"]]


async def test_a_topup_adds_to_the_balance(web: Web) -> None:
    session = await funded(web, 100)
    added = await topup(web, session, 250)
    assert (added["invoice"]["amountSats"], added["balanceSats"]) == (250, 100)
    web.pay(added)
    await until(web, session, balanceSats=350)


async def test_a_topup_whose_answer_was_lost_is_the_same_invoice(web: Web) -> None:
    session = await funded(web, 100)
    web.node.lose_next_answer()
    path = f"{CURRENT}/topups"
    status, _ = await web.call("POST", path, {"amountSats": 5}, token=session["token"], headers=KEY)
    assert status == 503
    await topup(web, session, 5, headers=KEY)
    assert await web.gateway.pool.fetchval("select count(*) from invoices where purpose = 'topup'") == 1


@pytest.mark.parametrize("state", ["awaiting_deposit", "closed"])
async def test_only_an_active_session_is_topped_up(web: Web, state: str) -> None:
    session = await opened(web, 5) if state == "awaiting_deposit" else await funded(web, 5)
    if state == "closed":
        await close(web, session)
    status, problem = await web.call("POST", f"{CURRENT}/topups", {"amountSats": 5}, token=session["token"])
    assert (status, problem["code"], problem["state"]) == (409, "session_not_active", state)


async def test_closed_the_rest_is_refunded(web: Web) -> None:
    session = await funded(web, 500)
    await ask(web, session, {"cost": 30})
    back = web.invoice(470)
    status, closed = await close(web, session, back)
    assert (status, closed["state"], closed["balanceSats"], closed["heldSats"]) == (200, "closed", 0, 0)
    await until(web, session, refundState="paid", refundAmountSats=470)
    assert web.sends(back) == 1
    assert (await ask(web, session, {"cost": 1}))[1]["code"] == "session_not_active"


async def test_without_a_destination_the_rest_goes_to_the_one_on_file(web: Web) -> None:
    back = web.invoice(0)
    session = await funded(web, 500, refundTo=back)
    assert (await close(web, session))[0] == 200
    await until(web, session, state="closed", refundState="paid", refundAmountSats=500)
    assert web.sends(back) == 1


async def test_a_destination_at_the_end_stands_above_the_one_on_file(web: Web) -> None:
    on_file, last = web.invoice(0), web.invoice(500)
    session = await funded(web, 500, refundTo=on_file)
    assert (await close(web, session, last))[0] == 200
    await until(web, session, refundState="paid")
    assert (web.sends(on_file), web.sends(last)) == (0, 1)


async def test_nowhere_to_the_rest_waits_until_somebody_says_where(web: Web) -> None:
    session = await funded(web, 500)
    assert (await close(web, session))[1]["refundState"] == "pending"
    status, problem = await close(web, session, web.invoice(499))
    assert (status, problem["code"], problem["refundAmountSats"]) == (422, "destination_wrong_amount", 500)
    assert (await close(web, session, web.invoice(500)))[0] == 200
    await until(web, session, state="closed", refundState="paid")
    status, problem = await close(web, session, web.invoice(500))
    assert (status, problem["code"]) == (409, "nothing_to_refund")


async def test_a_wrong_amount_closes_nothing(web: Web) -> None:
    session = await funded(web, 500)
    status, problem = await close(web, session, web.invoice(499))
    assert (status, problem["code"]) == (422, "destination_wrong_amount")
    assert (await current(web, session))["state"] == "active"


@pytest.mark.parametrize("key", [None, "token", "x"])
async def test_a_destination_needs_the_refund_key(web: Web, key: str | None) -> None:
    """The token is pasted into API clients: whoever finds it can spend, but not carry the rest away."""
    session = await funded(web, 500)
    body = {"destination": web.invoice(500)}
    if key is not None:
        body["refundKey"] = session.get(key, key)
    status, problem = await web.call("POST", f"{CURRENT}/close", body, token=session["token"])
    assert (status, problem["code"]) == (403, "refund_key_invalid")
    assert (await current(web, session))["state"] == "active"


async def test_an_empty_session_closes_with_nothing_owed(web: Web) -> None:
    session = await funded(web, 100)
    await ask(web, session, {"cost": 100})
    status, closed = await close(web, session)
    assert (status, closed["state"], closed["refundState"]) == (200, "closed", "none")


async def test_closing_waits_for_what_runs_and_refuses_the_rest(web: Web) -> None:
    session = await funded(web, 500)
    running = asyncio.create_task(ask(web, session, {"cost": 30, "hold": True}))
    await web.service.arrived.wait()
    assert (await close(web, session, web.invoice(0)))[1]["state"] == "closing"
    status, problem = await ask(web, session, {"cost": 1})
    assert (status, problem["state"]) == (409, "closing")
    web.service.release.set()
    assert (await running)[1]["chargedSats"] == 30
    await until(web, session, state="closed", refundState="paid", refundAmountSats=470)


async def test_closing_cancels_what_could_still_be_paid(web: Web) -> None:
    session = await funded(web, 500)
    added = await topup(web, session, 5)
    await close(web, session)
    await until(web, session, state="closed")
    with pytest.raises(ValueError, match="canceled"):
        web.pay(added)


async def test_a_topup_that_settles_while_it_closes_joins_the_rest(web: Web) -> None:
    session = await funded(web, 500)
    added = await topup(web, session, 5)
    running = asyncio.create_task(ask(web, session, {"cost": 30, "hold": True}))
    await web.service.arrived.wait()
    web.node.go_unavailable()  # the invoice can not be cancelled now
    assert (await close(web, session))[1]["state"] == "closing"
    web.node.come_back()
    web.pay(added)
    web.service.release.set()
    await running
    await until(web, session, state="closed", refundState="pending", refundAmountSats=475)
    assert await web.gateway.pool.fetchval("select count(*) from refunds") == 1


async def test_what_settles_after_the_end_is_a_refund_of_its_own(web: Web) -> None:
    session = await funded(web, 500)
    added = await topup(web, session, 5)
    await web.gateway.pool.execute("update sessions set last_used_at = now() - interval '91 days'")
    await until(web, session, state="expired")
    web.pay(added, 5500)
    expired = await until(web, session, refundState="pending", refundAmountSats=5)
    assert expired["balanceSats"] == 500
    said = await statement(web, session)
    assert changes(said)[1:] == [("topup", 5, 505), ("refund", -5, 500), ("sub_sat", 0, 500)]


async def test_idle_it_expires_and_its_balance_stays_refundable(web: Web) -> None:
    session = await funded(web, 500)
    await web.gateway.pool.execute("update sessions set last_used_at = now() - interval '91 days'")
    expired = await until(web, session, state="expired", balanceSats=500)
    assert expired["refundState"] == "none"
    status, answer = await close(web, session, web.invoice(500))
    assert (status, answer["state"]) == (200, "expired")
    await until(web, session, state="expired", balanceSats=0, refundState="paid", refundAmountSats=500)


async def test_with_a_running_request_it_does_not_expire(web: Web) -> None:
    session = await funded(web, 500)
    running = asyncio.create_task(ask(web, session, {"cost": 30, "hold": True}))
    await web.service.arrived.wait()
    await web.gateway.pool.execute("update sessions set last_used_at = now() - interval '91 days'")
    await expire_idle(web.gateway.pool, 90)
    assert (await current(web, session))["state"] == "active"
    web.service.release.set()
    await running
    await expire_idle(web.gateway.pool, 90)
    assert (await current(web, session))["state"] == "active"


async def test_an_unpaid_session_is_given_up(web: Web) -> None:
    session = await opened(web, 500)
    status, answer = await close(web, session)
    assert (status, answer["state"]) == (200, "expired")
    with pytest.raises(ValueError, match="canceled"):
        web.pay(session)


async def test_an_unpaid_session_is_not_given_up_while_the_node_is_away(web: Web) -> None:
    session = await opened(web, 500)
    web.node.go_unavailable()
    status, problem = await close(web, session)
    assert (status, problem["code"]) == (503, "node_unavailable")
    web.node.come_back()
    web.pay(session)
    await until(web, session, state="active", balanceSats=500)


async def test_paid_and_booked_while_it_is_given_up_it_is_active(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """No invoice is left to cancel when LND is asked, which is no giving up."""
    session = await opened(web, 500)
    cancel_at_node = closing.cancel_at_node

    async def paid_first(pool: Pool, node: Node, session_id: str) -> bool:
        web.pay(session)
        await until(web, session, state="active")
        return await cancel_at_node(pool, node, session_id)

    monkeypatch.setattr(closing, "cancel_at_node", paid_first)
    status, problem = await close(web, session)
    assert (status, problem["code"]) == (409, "session_not_active")
    assert (await current(web, session))["balanceSats"] == 500


async def test_paid_just_before_it_is_given_up_it_is_active(web: Web) -> None:
    session = await opened(web, 500)
    web.node.go_unavailable()  # so that the watcher does not hear of it
    web.pay(session)
    web.node.come_back()
    status, answer = await close(web, session)
    assert (status, answer.get("code", answer.get("state"))) in ((409, "session_not_active"), (200, "closed"))
    await until(web, session, heldSats=0)


async def test_closing_waits_for_the_node(web: Web) -> None:
    session = await funded(web, 500)
    await topup(web, session, 5)
    web.node.go_unavailable()
    assert (await close(web, session))[1]["state"] == "closing"
    web.node.come_back()
    await until(web, session, state="closed")


async def test_closed_twice_at_once_it_is_owed_once(web: Web) -> None:
    session = await funded(web, 500)
    answers = await asyncio.gather(*(close(web, session) for _ in range(8)))
    assert {status for status, _ in answers} == {200}
    await until(web, session, state="closed", refundState="pending", refundAmountSats=500)


async def test_the_statement_tells_every_sat(web: Web) -> None:
    session = await known(web, 200, "half", 1000)
    await ask(web, session, {"cost": 80})
    await ask(web, session, {"fail": True})
    web.pay(await topup(web, session, 20))
    await until(web, session, balanceSats=190)
    await close(web, session, web.invoice(190))
    await until(web, session, refundState="paid")
    said = await statement(web, session)
    assert changes(said) == [
        ("deposit", 200, 200),
        ("request", -30, 170),
        ("request", 0, 170),
        ("topup", 20, 190),
        ("refund", -190, 0),
    ]
    assert [item["number"] for item in said["items"]] == [1, 2, 3, 4, 5]
    request, failed, refund = said["items"][1], said["items"][2], said["items"][4]
    assert (request["work"], request["serve"], request["absorbedSats"]) == ("echo", "partial", 50)
    assert (failed["state"], refund["state"]) == ("failed", "paid")
    totals = {name: said[name] for name in ("paidInSats", "chargedSats", "absorbedSats", "refundedSats", "balanceSats")}
    assert totals == {"paidInSats": 220, "chargedSats": 30, "absorbedSats": 50, "refundedSats": 190, "balanceSats": 0}


async def test_the_statement_comes_in_pages(web: Web) -> None:
    session = await funded(web, 500)
    for _ in range(4):
        await ask(web, session, {"cost": 1})
    first = await statement(web, session, "?limit=3")
    rest = await statement(web, session, f"?limit=3&after={first['next']}")
    assert [item["number"] for item in first["items"] + rest["items"]] == [1, 2, 3, 4, 5]
    assert "next" not in rest
    for query in ("?after=x", "?limit=0", "?limit=5000"):
        status, problem = await web.call("GET", f"{CURRENT}/statement{query}", token=session["token"])
        assert (status, problem["code"]) == (400, "invalid_request")


async def test_the_operator_sees_sessions_and_whose_a_refund_is(web: Web) -> None:
    session = await funded(web, 500)
    await close(web, session)
    (seen,) = (await operator(web, "GET", "sessions"))["items"]
    assert (seen["id"], seen["state"], seen["balanceMsat"]) == (session["id"], "closed", 0)
    (refund,) = (await operator(web, "GET", "refunds"))["items"]
    assert (refund["sessionId"], refund.get("jobId"), refund["amountSats"]) == (session["id"], None, 500)


async def test_the_operator_tries_a_rejected_destination_again(web: Web) -> None:
    session = await funded(web, 500, refundTo=web.invoice(0))
    await web.gateway.pool.execute("update sessions set refund_to_error = 'said no'")
    await close(web, session)
    (refund,) = (await operator(web, "GET", "refunds"))["items"]
    assert (await operator(web, "POST", f"refunds/{refund['id']}/retry"))["amountSats"] == 500
    await until(web, session, refundState="paid")
