"""Sessions, from the deposit to the refund of the rest, on the fake node."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.waiting import PATIENCE_S
from tests.web.conftest import Web
from tests.web.free_tier import ALICE, signed

KEY = {"Idempotency-Key": "0123456789abcdef0123"}


async def current(web: Web, session: dict[str, Any]) -> dict[str, Any]:
    status, body = await web.call("GET", "/api/sessions/current", token=session["token"])
    assert status == 200, body
    return dict(body)


async def until(web: Web, session: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                seen = await current(web, session)
                if all(seen.get(name) == value for name, value in wanted.items()):
                    return seen
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"wanted {wanted}, last seen {seen}") from None


async def opened(web: Web, sats: int, **more: Any) -> dict[str, Any]:
    """A session whose deposit is not paid."""
    status, session = await web.call("POST", "/api/sessions", {"depositSats": sats, **more})
    assert status == 201, session
    return dict(session)


async def funded(web: Web, sats: int, **more: Any) -> dict[str, Any]:
    """An active session with this balance."""
    session = await opened(web, sats, **more)
    web.pay(session)
    await until(web, session, state="active", balanceSats=sats)
    return session


async def test_a_deposit_makes_it_active(web: Web) -> None:
    session = await opened(web, 500)
    assert session["token"].startswith("bw_session_")
    assert session["refundKey"].startswith("bw_refund_")
    assert (session["state"], session["balanceSats"], session["heldSats"]) == ("awaiting_deposit", 0, 0)
    assert session["invoice"]["amountSats"] == 500
    web.pay(session)
    active = await until(web, session, state="active", balanceSats=500)
    assert "invoice" not in active
    assert "token" not in active


async def test_an_overpaid_deposit_can_be_spent_whole(web: Web) -> None:
    session = await opened(web, 500)
    web.pay(session, 550_500)
    await until(web, session, state="active", balanceSats=550)


async def test_an_unpaid_deposit_expires_and_is_owed_back_if_it_settles_late(web: Web) -> None:
    session = await opened(web, 500)
    payment_hash = bytes.fromhex(session["invoice"]["paymentHash"])
    web.node.expire(payment_hash)
    expired = await until(web, session, state="expired")
    assert expired["invoice"]["state"] == "canceled"
    assert (expired["refundState"], expired["balanceSats"]) == ("none", 0)


async def test_only_its_own_token_opens_it(web: Web) -> None:
    session = await opened(web, 5)
    for token, code in (
        (None, "credential_required"),
        (session["refundKey"], "credential_invalid"),
        ("x", "credential_invalid"),
    ):
        status, problem = await web.call("GET", "/api/sessions/current", token=token)
        assert (status, problem["code"]) == (401, code)


async def test_only_hashes_of_the_tokens_are_kept(web: Web) -> None:
    session = await opened(web, 5)
    rows = await web.gateway.pool.fetch(
        "select sessions::text as row from sessions union all select response::text from idempotency_keys"
    )
    assert not [row for row in rows if session["token"][12:] in (row["row"] or "")]


@pytest.mark.parametrize("sats", ["5", 5.0, True, 0, -1, None])
async def test_a_deposit_is_a_strict_integer(web: Web, sats: Any) -> None:
    status, problem = await web.call("POST", "/api/sessions", {"depositSats": sats})
    assert (status, problem["code"]) == (422, "invalid_body")


async def test_the_same_key_is_the_same_session_tokens_included(web: Web) -> None:
    first = await web.call("POST", "/api/sessions", {"depositSats": 7}, headers=KEY)
    assert await web.call("POST", "/api/sessions", {"depositSats": 7}, headers=KEY) == first
    status, problem = await web.call("POST", "/api/sessions", {"depositSats": 8}, headers=KEY)
    assert (status, problem["code"]) == (422, "idempotency_key_reused")
    assert await web.gateway.pool.fetchval("select count(*) from sessions") == 1


async def test_a_lost_answer_is_resumed_with_the_same_key(web: Web) -> None:
    web.node.lose_next_answer()
    status, _ = await web.call("POST", "/api/sessions", {"depositSats": 7}, headers=KEY)
    assert status == 503
    status, session = await web.call("POST", "/api/sessions", {"depositSats": 7}, headers=KEY)
    assert status == 201
    web.pay(session)
    await until(web, session, state="active", balanceSats=7)
    assert await web.gateway.pool.fetchval("select count(*) from invoices") == 1


async def test_it_belongs_to_the_identity_that_opened_it(web: Web) -> None:
    status, session = await signed(web, "POST", "/api/sessions", {"depositSats": 9})
    assert (status, session["pubkey"]) == (201, ALICE.pubkey)


async def test_open_deposits_count_against_their_address(web: Web) -> None:
    for _ in range(20):
        await opened(web, 1)
    status, problem = await web.call("POST", "/api/sessions", {"depositSats": 1})
    assert (status, problem["code"]) == (429, "too_many_open_invoices")
