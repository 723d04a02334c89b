"""Money into the pool: a donation with an Idempotency-Key is one invoice; top-ups end where there is no more money."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ledger.money import MAX_SATS
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web

KEY = {"Idempotency-Key": "a-key-of-twenty-characters"}


async def donate(web: Web, amount_sats: int = 21, **headers: str) -> tuple[int, Any]:
    return await web.call("POST", "/api/pool/donations", {"amountSats": amount_sats}, headers=headers)


async def invoices(web: Web) -> int:
    return int(await web.gateway.pool.fetchval("select count(*) from invoices"))


async def test_one_key_is_one_donation(web: Web) -> None:
    first = await donate(web, **KEY)
    assert first[0] == 201
    assert await donate(web, **KEY) == first
    status, problem = await donate(web, 22, **KEY)
    assert (status, problem["code"]) == (422, "idempotency_key_reused")
    status, problem = await donate(web, **{"Idempotency-Key": "short"})
    assert (status, problem["code"]) == (400, "idempotency_key_invalid")
    assert await invoices(web) == 1
    assert (await donate(web))[1] != (await donate(web))[1]
    assert await invoices(web) == 3


async def test_a_donation_whose_answer_was_lost_is_resumed(web: Web) -> None:
    web.node.lose_next_answer()
    assert (await donate(web, **KEY))[0] == 503
    status, gift = await donate(web, **KEY)
    assert status == 201
    assert await invoices(web) == 1
    web.pay(gift)
    async with asyncio.timeout(PATIENCE_S):
        while (await web.call("GET", "/api/pool"))[1]["balanceSats"] != 21:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "ended",
    ["state = 'canceled'", "planned_expires_at = now() + interval '5 seconds'"],
    ids=["cancelled meanwhile", "about to expire"],
)
async def test_a_resumed_donation_that_can_not_be_paid_any_more_gets_a_new_invoice(web: Web, ended: str) -> None:
    web.node.lose_next_answer()
    assert (await donate(web, **KEY))[0] == 503
    before = await web.gateway.pool.fetchval(f"update invoices set {ended} returning payment_hash")  # noqa: S608
    status, gift = await donate(web, **KEY)
    assert (status, await invoices(web)) == (201, 2)
    assert bytes.fromhex(gift["invoice"]["paymentHash"]) != before


async def test_the_cap_of_an_address_holds_for_donations(web: Web) -> None:
    for _ in range(20):
        assert (await donate(web))[0] == 201
    status, problem = await donate(web, **KEY)
    assert (status, problem["code"]) == (429, "too_many_open_invoices")


async def topup(web: Web, amount_sats: int, **headers: str) -> tuple[int, Any]:
    key = web.gateway.settings.operator_key.get_secret_value()
    return await web.call("POST", "/api/operator/pool/topups", {"amountSats": amount_sats}, token=key, headers=headers)


async def test_the_pool_never_holds_more_than_there_is(web: Web) -> None:
    assert (await topup(web, MAX_SATS - 10, **KEY))[0] == 200
    answers = await asyncio.gather(*(topup(web, 4) for _ in range(6)))
    assert sorted(status for status, _ in answers) == [200, 200, 409, 409, 409, 409]
    assert {body["code"] for status, body in answers if status == 409} == {"pool_full"}
    assert (await topup(web, MAX_SATS))[1]["code"] == "pool_full"
    status, pool = await topup(web, MAX_SATS - 10, **KEY)
    assert (status, pool["balanceSats"]) == (200, MAX_SATS - 2), "a repeated top-up is answered, not booked"
    status, problem = await topup(web, MAX_SATS + 1)
    assert (status, problem["code"]) == (422, "invalid_body")
