"""A refund asked for by a signed call (NIP-98): the event is used up with what it did, and only then."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.nostr import Signer, header
from tests.web.conftest import Web

ME = Signer(21)


async def signed(
    web: Web, path: str, body: Any, content: str, made_at: int, *, key: str | None = None
) -> tuple[int, Any]:
    """The event depends on `content` alone, so that the same call can be sent again."""
    raw = b"" if body is None else json.dumps(body).encode()
    headers = header(ME.call("POST", f"{web.url}{path}", raw, content=content, created_at=made_at))
    headers |= ({"Content-Type": "application/json"} if raw else {}) | ({"Idempotency-Key": key} if key else {})
    async with web.http.post(f"{web.url}{path}", data=raw or None, headers=headers) as response:
        return response.status, await response.json(content_type=None)


async def owing(web: Web) -> dict[str, Any]:
    """A finished job of this key that owes 70 sats."""
    body = {"work": "echo", "input": {"cost": 30}}
    status, job = await signed(web, "/api/jobs", body, "buy", int(time.time()))
    assert status == 201, job
    web.pay(job)
    await web.until(job, state="complete", refundState="pending", refundAmountSats=70)
    return dict(job)


async def used(web: Web) -> int:
    return int(await web.gateway.pool.fetchval("select count(*) from nostr_events"))


async def test_an_event_that_was_refused_is_not_used_up_and_one_that_claimed_is(web: Web) -> None:
    job = await owing(web)
    path, now = f"/api/jobs/{job['id']}/refund", int(time.time())
    before = await used(web)
    wrong = {"destination": web.invoice(69)}
    assert (await signed(web, path, wrong, "one", now))[1]["code"] == "destination_wrong_amount"
    assert await used(web) == before
    right = {"destination": web.invoice(70)}
    assert (await signed(web, path, right, "two", now))[0] == 202
    assert await used(web) == before + 1
    assert (await signed(web, path, right, "two", now))[1]["code"] == "nostr_event_replayed"
    await web.until(job, refundState="paid")
    assert len(web.node.sent) == 1


async def test_the_same_signed_call_with_a_key_is_answered_again(web: Web) -> None:
    """A client repeats its request as it was, event and all; the answer that was kept for it is its own."""
    job = await owing(web)
    path, now, key = f"/api/jobs/{job['id']}/refund", int(time.time()), "a-key-of-twenty-characters"
    body = {"destination": web.invoice(70)}
    first = await signed(web, path, body, "one", now, key=key)
    assert first[0] == 202
    assert await signed(web, path, body, "one", now, key=key) == first
    before = await used(web)
    assert await signed(web, path, body, "two", now, key=key) == first
    assert await used(web) == before + 1, "an event that got a kept answer is used up"
    assert (await signed(web, path, body, "two", now))[1]["code"] == "nostr_event_replayed"


@pytest.mark.parametrize(
    ("path", "body", "table"),
    [("/api/jobs", {"work": "echo", "input": {}}, "jobs"), ("/api/sessions", {"depositSats": 9}, "sessions")],
    ids=["job", "session"],
)
async def test_an_event_that_got_a_kept_sale_is_used_up(web: Web, path: str, body: dict[str, Any], table: str) -> None:
    now, key = int(time.time()), "a-key-of-twenty-characters"
    first = await signed(web, path, body, "one", now, key=key)
    assert first[0] == 201
    assert await signed(web, path, body, "two", now, key=key) == first
    assert (await signed(web, path, body, "two", now))[1]["code"] == "nostr_event_replayed"
    assert await web.gateway.pool.fetchval(f"select count(*) from {table}") == 1  # noqa: S608 - a word of ours


async def test_dust_is_given_by_a_signed_call(web: Web) -> None:
    web.gateway.settings = web.gateway.settings.model_copy(update={"refund_min_sats": 71})
    job = await owing(web)
    path, now = f"/api/jobs/{job['id']}/refund/donate", int(time.time())
    status, given = await signed(web, path, None, "one", now)
    assert (status, given["refundDonatedSats"]) == (200, 70)
    assert (await signed(web, path, None, "one", now))[1]["code"] == "nostr_event_replayed"
