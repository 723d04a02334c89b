"""The operator's login: the right key, wrong ones, too many; and what a session's cookie and forms must hold."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.app import make_app
from gateway.operator import sessions
from gateway.operator.sessions import TRIES_IN_ALL, TRIES_PER_ADDRESS
from tests.web.conftest import Web
from tests.web.operator_browser import COOKIE, Operator, operating, words


async def count(web: Web, table: str) -> int:
    return int(await web.gateway.pool.fetchval(f"select count(*) from {table}"))  # noqa: S608


def operator_routes(web: Web) -> list[tuple[str, str]]:
    """Every method and address under /operator but the login's own."""
    routes = {
        (
            route.method,
            route.resource.canonical.replace("{id}", "x").replace("{name}", "pool").replace("{pubkey}", "ab" * 32),
        )
        for route in make_app(web.gateway).router.routes()
        if route.resource is not None and route.resource.canonical.startswith("/operator")
    }
    return sorted((method, path) for method, path in routes if path != "/operator/login" and method != "HEAD")


async def test_the_right_key_opens_a_session(web: Web) -> None:
    async with operating(web, logged_in=False) as operator:
        page = await operator.log_in(web)
        assert (page.status, page.headers["Location"]) == (303, "/operator")
        cookie = page.cookies[COOKIE]
        assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == ("/operator", True, "Strict")
        assert (cookie["max-age"], cookie["secure"]) == ("43200", "")
        row = await web.gateway.pool.fetchrow("select *, expires_at - created_at as life from operator_sessions")
        assert cookie.value.encode() not in bytes(row["token_hash"])
        assert len(cookie.value) == 43
        assert row["life"].total_seconds() == 12 * 3600
        assert "Log out" in (await operator.get("/operator")).text
        assert (await operator.get("/operator/login")).headers["Location"] == "/operator"
        assert await count(web, "operator_login_tries") == 0, "a right key is no try"


async def test_on_https_the_cookie_is_secure(web: Web) -> None:
    kept = web.gateway.settings
    web.gateway.settings = kept.model_copy(update={"public_url": "https://pay.example.org"})
    async with operating(web, logged_in=False) as operator:
        key = web.gateway.settings.operator_key.get_secret_value()
        page = await operator.post("/operator/login", {"key": key})
        assert page.cookies[COOKIE]["secure"] is True
    web.gateway.settings = kept


async def test_a_wrong_key_opens_nothing_and_is_never_repeated(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    wrong = "not-the-key-but-a-long-one"
    right = web.gateway.settings.operator_key.get_secret_value()
    with caplog.at_level(logging.DEBUG):
        async with operating(web, logged_in=False) as operator:
            page = await operator.log_in(web, wrong)
            assert page.status == 401
            assert "This is not the operator key." in page.text
            assert COOKIE not in page.cookies
            assert wrong not in page.text
            assert (await operator.log_in(web, "")).status == 401
            assert (await operator.get(f"/operator/login?key={right}")).status == 200
            assert (await operator.get("/operator")).status == 303, "a key in the address is no login"
            assert (await operator.log_in(web)).status == 303
    assert await count(web, "operator_sessions") == 1
    said = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("gateway"))
    assert "a wrong operator key was tried from 127.0.0.1" in said
    assert wrong not in said
    assert right not in said


async def test_too_many_tries_and_the_right_key_is_not_even_looked_at(web: Web) -> None:
    async with operating(web, logged_in=False) as operator:
        for _ in range(TRIES_PER_ADDRESS):
            assert (await operator.log_in(web, "wrong")).status == 401
        for key in ("wrong", None):
            page = await operator.log_in(web, key)
            assert page.status == 429
            assert 0 < int(page.headers["Retry-After"]) <= 900
            assert page.type == "text/html"
        assert await count(web, "operator_login_tries") == TRIES_PER_ADDRESS, "what is turned away is not kept"
        await web.gateway.pool.execute("update operator_login_tries set tried_at = now() - interval '16 minutes'")
        assert (await operator.log_in(web)).status == 303


async def test_guesses_at_once_are_counted_before_they_are_compared(web: Web) -> None:
    async with operating(web, logged_in=False) as operator:
        pages = await asyncio.gather(*(operator.log_in(web, "wrong") for _ in range(20)))
    assert sorted(page.status for page in pages) == [401] * TRIES_PER_ADDRESS + [429] * (20 - TRIES_PER_ADDRESS)


async def test_strangers_can_not_shut_out_an_address_that_was_let_in(web: Web) -> None:
    async with operating(web):
        pass
    await web.gateway.pool.execute(
        "insert into operator_login_tries (client_address)"
        " select ('10.0.0.' || n)::inet from generate_series(1, $1::int) n",
        TRIES_IN_ALL,
    )
    async with operating(web, logged_in=False) as operator:
        assert (await operator.log_in(web)).status == 303


async def test_many_addresses_are_limited_together(web: Web) -> None:
    await web.gateway.pool.execute(
        "insert into operator_login_tries (client_address)"
        " select ('10.0.0.' || n)::inet from generate_series(1, $1::int) n",
        TRIES_IN_ALL,
    )
    async with operating(web, logged_in=False) as operator:
        page = await operator.log_in(web)
        assert page.status == 429
        assert int(page.headers["Retry-After"]) > 0


async def test_without_a_session_no_page_and_no_form(web: Web) -> None:
    routes = operator_routes(web)
    assert len(routes) > 20
    async with operating(web, logged_in=False) as operator:
        for method, path in routes:
            page = await (operator.get(path) if method == "GET" else operator.post(path, {"sure": "yes"}))
            if method == "GET":
                assert (page.status, page.headers["Location"]) == (303, "/operator/login"), path
                assert page.body == b"", path
            else:
                assert page.status == 401, path
    assert await count(web, "operator_actions") == 0
    assert await count(web, "transfers") == 0
    assert await count(web, "identities") == 0


@pytest.mark.parametrize("token", [None, "", "0" * 64, "é"], ids=["missing", "empty", "forged", "not ascii"])
async def test_a_form_without_the_sessions_own_token_does_nothing(web: Web, token: str | None) -> None:
    async with operating(web) as operator:
        before = await count(web, "operator_actions")
        for method, path in operator_routes(web):
            if method == "POST":
                form = {"amount_sats": "5", "once": "a" * 22, "sure": "yes"} | (
                    {} if token is None else {"csrf": token}
                )
                page = await operator.post(path, form)
                assert (page.status, "forged_form" in page.text) == (403, True), path
        assert await count(web, "operator_actions") == before
        assert (await operator.get("/operator")).status == 200, "nobody was logged out"


async def test_the_token_of_another_session_is_forged(web: Web) -> None:
    async with operating(web) as one, operating(web) as other:
        assert one.csrf != other.csrf
        assert (await one.post("/operator/reconciliation", {"csrf": other.csrf})).status == 403


@pytest.mark.parametrize("said", [{"Sec_Fetch_Site": "cross-site"}, {"Origin": "https://evil.example"}])
async def test_a_form_of_another_site_is_refused(web: Web, said: dict[str, str]) -> None:
    async with operating(web) as operator:
        page = await operator.post("/operator/reconciliation", {"csrf": operator.csrf}, **said)
        assert page.status == 403
        assert (await operator.post("/operator/login", {"key": "x"}, **said)).status == 403


async def ended(web: Web, operator: Operator) -> bool:
    page = await operator.get("/operator")
    refused = await operator.send("/operator/reconciliation")
    return (page.status, refused.status) == (303, 401)


async def test_an_expired_session_opens_nothing(web: Web) -> None:
    async with operating(web) as operator:
        await web.gateway.pool.execute(
            "update operator_sessions set created_at = created_at - interval '12 hours',"
            " last_seen_at = last_seen_at - interval '12 hours', expires_at = expires_at - interval '12 hours'"
        )
        assert await ended(web, operator)


async def test_what_is_over_is_forgotten(web: Web) -> None:
    async with operating(web, logged_in=False) as operator:
        await operator.log_in(web, "wrong")
        await operator.log_in(web)
        await sessions.forget_old(web.gateway.pool)
        assert (await count(web, "operator_sessions"), await count(web, "operator_login_tries")) == (1, 1)
        assert 'in the last 15 minutes</dt><dd><span class="badge bad">1<' in (await operator.get("/operator")).text
        await web.gateway.pool.execute(
            "update operator_sessions set created_at = now() - interval '2 hours',"
            " last_seen_at = now() - interval '2 hours', expires_at = now() - interval '1 hour'"
        )
        await web.gateway.pool.execute("update operator_login_tries set tried_at = now() - interval '25 hours'")
        await sessions.forget_old(web.gateway.pool)
        assert (await count(web, "operator_sessions"), await count(web, "operator_login_tries")) == (0, 0)
    assert await count(web, "operator_actions") == 1, "the log stays"


async def test_a_logged_out_session_opens_nothing_even_with_its_old_cookie(web: Web) -> None:
    async with operating(web) as operator:
        old = {"Cookie": "; ".join(f"{cookie.key}={cookie.value}" for cookie in operator.session.cookie_jar)}
        page = await operator.send("/operator/logout")
        assert (page.status, page.headers["Location"]) == (303, "/operator/login")
        assert page.cookies[COOKIE]["path"] == "/operator"
        assert await count(web, "operator_sessions") == 0
        assert (await operator.get("/operator", **old)).status == 303


async def test_a_forgotten_session_is_ended_from_another(web: Web) -> None:
    async with operating(web) as forgotten, operating(web) as operator:
        ids = [
            row["id"] for row in await web.gateway.pool.fetch("select id from operator_sessions order by created_at")
        ]
        page = await operator.get("/operator/logins")
        assert all(f"/operator/logins/{session_id}/end" in page.text for session_id in ids[:1])
        assert "this one" in page.text
        done = await operator.send(f"/operator/logins/{ids[0]}/end")
        assert "Done: the session ended" in words(await operator.get(done.headers["Location"]))
        assert await ended(web, forgotten)
        for gone in (ids[0], "x", "%00", "x" * 300):
            assert (await operator.send(f"/operator/logins/{gone}/end")).status == 404, gone


async def test_another_operator_key_ends_every_session(web: Web) -> None:
    async with operating(web) as operator:
        kept = web.gateway.settings
        web.gateway.settings = kept.model_copy(update={"operator_key": SecretStr("another-key-of-the-operator")})
        assert await ended(web, operator)
        web.gateway.settings = kept


async def test_only_the_newest_sessions_are_kept(web: Web) -> None:
    async with operating(web) as first:
        for _ in range(20):
            async with operating(web):
                pass
        assert await count(web, "operator_sessions") == 20
        assert (await first.get("/operator")).status == 303


@pytest.mark.parametrize("body", [b"key=%00", b"key=a&key=b", b"\xff\xfe"])
async def test_a_form_that_no_browser_sends(web: Web, body: bytes) -> None:
    headers: dict[str, Any] = {"Content-Type": "application/x-www-form-urlencoded"}
    async with web.http.post(f"{web.url}/operator/login", data=body, headers=headers) as response:
        assert response.status in (400, 401)
