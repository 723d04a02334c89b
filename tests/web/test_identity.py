"""Identities over real HTTP and a real database: challenges used once, tokens, signed calls, the pages' login."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote_from_bytes

import aiohttp
import asyncpg
import pytest
import pytest_asyncio
from yarl import URL

from gateway.identity import Caller, record_event
from gateway.identity import login as logins
from gateway.ids import token_hash
from gateway.problems import Problem
from ledger.database import Pool
from tests.nostr import Signer, header
from tests.web.conftest import Web

ME = Signer(3)
COOKIE = "boltworks_identity"
EVENT_ID = "ab" * 32


async def challenge(web: Web) -> dict[str, Any]:
    status, body = await web.call("POST", "/api/identity/challenge")
    assert status == 200, body
    return dict(body)


async def verify(web: Web, event: Any) -> tuple[int, dict[str, Any]]:
    status, body = await web.call("POST", "/api/identity/verify", {"event": event})
    return status, body


async def logged_in(web: Web, signer: Signer = ME) -> str:
    asked = await challenge(web)
    status, body = await verify(web, signer.login(asked["challenge"], asked["relay"]))
    assert status == 200, body
    return str(body["token"])


async def who(web: Web, path: str = "/api/identity", **headers: str) -> tuple[int, dict[str, Any]]:
    return await web.call("GET", path, headers=headers)


async def count(web: Web, table: str) -> int:
    return int(await web.gateway.pool.fetchval(f"select count(*) from {table}"))  # noqa: S608 - our own names


# --- login -------------------------------------------------------------------------------------------------


async def test_a_challenge_signed_gives_a_token_that_works(web: Web) -> None:
    asked = await challenge(web)
    assert asked.keys() == {"challenge", "expiresAt", "relay"}
    assert asked["relay"] == web.gateway.settings.base_url
    status, got = await verify(web, ME.login(asked["challenge"], asked["relay"]))
    assert status == 200
    assert got.keys() == {"token", "pubkey", "expiresAt"}
    assert got["pubkey"] == ME.pubkey
    assert got["token"].startswith("bw_id_")
    status, me = await who(web, Authorization=f"Bearer {got['token']}")
    assert (status, me["pubkey"]) == (200, ME.pubkey)


async def test_only_the_hash_of_a_token_is_kept(web: Web) -> None:
    token = await logged_in(web)
    row = await web.gateway.pool.fetchrow("select * from identity_tokens")
    assert row is not None
    assert bytes(row["token_hash"]) == token_hash(token)
    assert token not in str(dict(row))


async def test_a_challenge_is_used_once(web: Web) -> None:
    asked = await challenge(web)
    first = ME.login(asked["challenge"], asked["relay"])
    assert (await verify(web, first))[0] == 200
    for event in (first, Signer(4).login(asked["challenge"], asked["relay"])):
        status, problem = await verify(web, event)
        assert (status, problem["code"]) == (401, "identity_challenge_invalid")
    assert await count(web, "identity_tokens") == 1


async def test_of_ten_that_race_for_a_challenge_one_gets_a_token(web: Web) -> None:
    asked = await challenge(web)
    events = [Signer(n).login(asked["challenge"], asked["relay"]) for n in range(1, 11)]
    answers = await asyncio.gather(*(verify(web, event) for event in events))
    assert sorted(status for status, _ in answers) == [200] + 9 * [401]
    assert await count(web, "identity_tokens") == 1


async def test_an_expired_challenge_is_refused(web: Web) -> None:
    asked = await challenge(web)
    await web.gateway.pool.execute(
        "update identity_challenges set created_at = now() - interval '5 minutes', expires_at = now()"
    )
    status, problem = await verify(web, ME.login(asked["challenge"], asked["relay"]))
    assert (status, problem["code"]) == (401, "identity_challenge_invalid")


async def test_a_refused_event_leaves_the_challenge_usable(web: Web) -> None:
    asked = await challenge(web)
    refused = {
        "relay": ME.login(asked["challenge"], "wss://other.example.org"),
        "kind": ME.event(1, [["relay", asked["relay"]], ["challenge", asked["challenge"]]]),
        "created_at": ME.login(asked["challenge"], asked["relay"], created_at=1_600_000_000),
        "signature": {**ME.login(asked["challenge"], asked["relay"]), "sig": "00" * 64},
        "sig": {},
    }
    for words, event in refused.items():
        status, problem = await verify(web, event)
        assert (status, problem["code"]) == (401, "identity_invalid")
        assert words in problem["detail"] or words == "sig"
    assert (await verify(web, ME.login(asked["challenge"], asked["relay"])))[0] == 200


async def test_a_challenge_that_is_not_ours(web: Web) -> None:
    for unknown in ("x" * 43, "", "é\n'"):
        status, problem = await verify(web, ME.login(unknown, web.gateway.settings.base_url))
        assert (status, problem["code"]) == (401, "identity_challenge_invalid")


async def test_asking_fills_no_disk(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "CHALLENGES_PER_ADDRESS", 3)
    used = await logged_in(web)
    await challenge(web)
    await challenge(web)
    status, problem = await web.call("POST", "/api/identity/challenge")
    assert (status, problem["code"]) == (429, "too_many_logins")
    assert used
    await web.gateway.pool.execute("update identity_challenges set client_address = '198.51.100.7'")
    await challenge(web)
    monkeypatch.setattr(logins, "CHALLENGES_TOTAL", 4)
    assert (await web.call("POST", "/api/identity/challenge"))[0] == 429
    await web.gateway.pool.execute(
        "update identity_challenges set used_at = null, created_at = now() - interval '5 minutes', expires_at = now()"
    )
    await challenge(web)
    assert await count(web, "identity_challenges") == 1


async def test_a_key_keeps_its_newest_tokens(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "TOKENS_PER_KEY", 2)
    tokens = [await logged_in(web) for _ in range(3)]
    others = await logged_in(web, Signer(4))
    answers = [(await who(web, Authorization=f"Bearer {token}"))[0] for token in (*tokens, others)]
    assert answers == [401, 200, 200, 200]


# --- calls -------------------------------------------------------------------------------------------------


async def test_a_token_that_is_over_or_unknown(web: Web) -> None:
    token = await logged_in(web)
    await web.gateway.pool.execute(
        "update identity_tokens set created_at = now() - interval '30 days', expires_at = now() - interval '1 s'"
    )
    for refused in (token, "bw_id_", "bw_id_unknown"):
        status, problem = await who(web, Authorization=f"Bearer {refused}")
        assert (status, problem["code"]) == (401, "identity_invalid")


async def test_no_identity_is_claimed(web: Web) -> None:
    for headers in ({}, {"Authorization": "Bearer bw_job_x"}, {"Authorization": "Basic Zm9vOmJhcg=="}):
        status, problem = await who(web, **headers)
        assert (status, problem["code"]) == (401, "credential_required")


async def test_a_signed_call_is_its_keys_and_writes_nothing(web: Web) -> None:
    for path in ("/api/identity", "/api/identity?a=1&b=%2F%20x", "/api/%69dentity?q=%C3%BC&"):
        url = URL(web.url + path, encoded=True)
        signed = header(ME.call("GET", web.url + path))
        for _ in range(2):
            async with web.http.get(url, headers=signed) as response:
                me = await response.json(content_type=None)
                assert (response.status, me.get("pubkey")) == (200, ME.pubkey), (path, me)
    assert await count(web, "nostr_events") == 0


async def test_calls_that_were_not_signed_so(web: Web) -> None:
    url = f"{web.url}/api/identity"
    refused = {
        "tag method": ME.call("POST", url),
        "tag u": ME.call("GET", f"{url}?a=1"),
        "payload": ME.call("GET", url, b"a body that was not sent"),
        "created_at": ME.call("GET", url, created_at=1_700_000_000),
        "kind": ME.event(22242, [["u", url], ["method", "GET"]]),
        "id is not": {**ME.call("GET", url), "content": "x"},
        "signature": {**ME.call("GET", url), "sig": "11" * 64},
    }
    for words, event in refused.items():
        status, problem = await who(web, **header(event))
        assert (status, problem["code"]) == (401, "identity_invalid")
        assert words in problem["detail"]


async def test_a_body_is_signed_with_its_call(web: Web) -> None:
    url, body = f"{web.url}/api/identity", b'{"a": 1}'
    answers = []
    for signed in (ME.call("GET", url, body), ME.call("GET", url), ME.call("GET", url, b'{"a": 2}')):
        async with web.http.get(url, data=body, headers=header(signed)) as response:
            answers.append((response.status, (await response.json(content_type=None)).get("detail", "")))
    assert [status for status, _ in answers] == [200, 401, 401]
    assert "tag payload is missing" in answers[1][1]
    assert "payload is not the SHA-256" in answers[2][1]


async def test_an_event_is_used_up_with_its_transaction(web: Web) -> None:
    pool, caller = web.gateway.pool, Caller(ME.pubkey, EVENT_ID)
    async with pool.acquire() as conn:
        failed_call = conn.transaction()
        await failed_call.start()
        await record_event(conn, caller)
        await failed_call.rollback()
    async with pool.acquire() as conn, conn.transaction():
        await record_event(conn, caller)
    async with pool.acquire() as conn:
        with pytest.raises(Problem) as refused:
            async with conn.transaction():
                await record_event(conn, caller)
    assert (refused.value.type.code, refused.value.type.status) == ("nostr_event_replayed", 401)
    assert await count(web, "nostr_events") == 1


async def test_of_ten_that_race_with_one_event_one_is_accepted(web: Web) -> None:
    async def use() -> bool:
        async with web.gateway.pool.acquire() as conn:
            try:
                async with conn.transaction():
                    await record_event(conn, Caller(ME.pubkey, EVENT_ID))
            except Problem:
                return False
        return True

    assert sorted(await asyncio.gather(*(use() for _ in range(10)))) == 9 * [False] + [True]


async def test_a_token_has_no_event_to_use_up(web: Web) -> None:
    async with web.gateway.pool.acquire() as conn:
        await record_event(conn, Caller(ME.pubkey))
        await record_event(conn, None)
    assert await count(web, "nostr_events") == 0


async def test_only_what_is_over_is_forgotten(web: Web) -> None:
    pool = web.gateway.pool
    await logged_in(web)
    await pool.execute(
        "insert into nostr_events (event_id, seen_at) values"
        " ($1, now() - interval '3 minutes'), ($2, now() - interval '2 hours')",
        EVENT_ID,
        "cd" * 32,
    )
    await logins.forget_old(pool)
    assert await pool.fetchval("select array_agg(event_id) from nostr_events") == [EVENT_ID]
    assert (await count(web, "identity_tokens"), await count(web, "identity_challenges")) == (1, 1)
    await pool.execute("update identity_tokens set created_at = now() - interval '1 day', expires_at = now()")
    await pool.execute(
        "update identity_challenges set used_at = null, created_at = now() - interval '1 minute', expires_at = now()"
    )
    await logins.forget_old(pool)
    assert (await count(web, "identity_tokens"), await count(web, "identity_challenges")) == (0, 0)


@pytest.mark.parametrize(
    "statement",
    [
        "insert into nostr_events (event_id) values ('AB')",
        "insert into identity_tokens values ('\\x00', repeat('a', 64), now(), now() + interval '1 day')",
        "insert into identity_tokens values (sha256('a'), repeat('G', 64), now(), now() + interval '1 day')",
        "insert into identity_tokens values (sha256('a'), repeat('a', 64), now(), now() + interval '31 days')",
        "insert into identity_challenges values (repeat('a', 43), '::1', now(), now() + interval '6 minutes')",
        "insert into identity_challenges values ('short', '::1', now(), now() + interval '1 minute')",
        "insert into identity_challenges values"
        " (repeat('a', 43), '::1', now(), now() + interval '1 minute', now() + interval '2 minutes')",
    ],
)
async def test_the_database_refuses_too(pool: Pool, statement: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await pool.execute(statement)


GARBAGE = [
    "Nostr",
    "Nostr ",
    "Nostr =",
    "nostr AAAA",
    "Nostr " + base64.b64encode(b"\xff\xfe").decode(),
    *(
        "Nostr " + base64.b64encode(text.encode()).decode()
        for text in ("null", "[]", "{}", "1e999", '"x"', "[" * 200, '{"id": "\\ud800"}', '{"id": "\\u0000"}')
    ),
    "Nostr ünïcode",
    "Bearer bw_id_\udce9",
    "Bearer bw_id_" + "x" * 4000,
]


@pytest.mark.parametrize("value", GARBAGE)
async def test_garbage_is_refused(web: Web, value: str) -> None:
    """Sent as raw bytes, because no client library would."""
    reader, writer = await asyncio.open_connection(web.gateway.settings.listen_host, web.gateway.settings.listen_port)
    sent = f"GET /api/identity HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {value}\r\n\r\n"
    writer.write(sent.encode(errors="surrogateescape"))
    answer = (await reader.read()).decode()
    writer.close()
    assert answer.startswith("HTTP/1.1 401 "), answer
    assert json.loads(answer.partition("\r\n\r\n")[2])["code"] in ("identity_invalid", "credential_required")


@pytest.mark.parametrize("body", [[], {}, {"event": []}, {"event": {}, "more": 1}, {"event": {"tags": [[[]]]}}])
async def test_garbage_is_not_verified(web: Web, body: Any) -> None:
    async with web.http.post(f"{web.url}/api/identity/verify", json=body) as response:
        assert response.status in (401, 422)
        assert response.content_type == "application/problem+json"


# --- pages -------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


async def page_login(web: Web, browser: aiohttp.ClientSession, **headers: str) -> aiohttp.ClientResponse:
    asked = await challenge(web)
    event = json.dumps(ME.login(asked["challenge"], asked["relay"]))
    async with browser.post(f"{web.url}/login", data={"event": event}, headers=headers) as response:
        await response.read()
        return response


async def page(web: Web, browser: aiohttp.ClientSession, path: str = "/") -> str:
    async with browser.get(web.url + path, headers={"Accept": "text/html"}) as response:
        return await response.text()


async def test_a_browser_logs_in_and_out(web: Web, browser: aiohttp.ClientSession) -> None:
    before = await page(web, browser)
    assert 'id="nostr-login" type="button" hidden' in before
    assert "nostr." in before
    answer = await page_login(web, browser)
    assert answer.status == 204
    cookie = answer.cookies[COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    for path in ("/", "/docs", "/nothing"):
        shown = await page(web, browser, path)
        assert f"{ME.pubkey[:8]}…{ME.pubkey[-4:]}" in shown
        assert "nostr-login" not in shown
    async with browser.post(f"{web.url}/logout", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (303, "/")
    assert "nostr-login" in await page(web, browser)
    status, _ = await who(web, Authorization=f"Bearer {cookie.value}")
    assert status == 401


async def test_another_site_logs_nobody_in_or_out(web: Web, browser: aiohttp.ClientSession) -> None:
    assert (await page_login(web, browser, **{"Sec-Fetch-Site": "cross-site"})).status == 403
    assert await count(web, "identity_tokens") == 0
    assert (await page_login(web, browser)).status == 204
    async with browser.post(f"{web.url}/logout", headers={"Origin": "https://evil.example.org"}) as response:
        assert response.status == 403
    assert await count(web, "identity_tokens") == 1


@pytest.mark.parametrize("event", ["", "{", "null", "[]", "{}", '{"tags": "\\u0000"}', "\ud83d"])
async def test_garbage_logs_nobody_in(web: Web, browser: aiohttp.ClientSession, event: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    sent = b"event=" + quote_from_bytes(event.encode(errors="surrogatepass")).encode()
    async with browser.post(f"{web.url}/login", data=sent, headers=form) as response:
        assert response.status in (400, 401)
        assert "<h1>" in await response.text()
        assert COOKIE not in response.cookies


async def test_a_cookie_of_nobody_shows_nobody(web: Web, browser: aiohttp.ClientSession) -> None:
    for value in ("bw_id_unknown", "x", "%00"):
        async with browser.get(web.url, headers={"Cookie": f"{COOKIE}={value}"}) as response:
            assert response.status == 200
            assert "nostr-login" in await response.text()
