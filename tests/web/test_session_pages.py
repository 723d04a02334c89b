"""The page of a prepaid balance: opened, paid, used, topped up, closed, paid back; and what it refuses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from yarl import URL

from gateway.api.models import SessionView
from gateway.pages.posted import sats_of
from gateway.pages.session_words import story_of
from gateway.problems import Problem
from tests.loud_model import loud_model_server, sell
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web
from tests.web.test_pages import Browser, Page, new_session
from tests.web.test_refund_retries import NO_ROUTE


@pytest_asyncio.fixture
async def browser(web: Web) -> AsyncIterator[Browser]:
    async with new_session() as session:
        yield Browser(session, web.url)


@pytest_asyncio.fixture
async def stranger(web: Web) -> AsyncIterator[Browser]:
    async with new_session() as session:
        yield Browser(session, web.url)


async def opened(browser: Browser, deposit: str = "1,000", **more: str) -> str:
    form = await browser.get("/sessions")
    page = await browser.post("/sessions", {"key": form.hidden("key"), "deposit": deposit, **more})
    assert page.status == 303, page.text
    return page.headers["Location"]


def id_of(path: str) -> str:
    return path.rpartition("/")[2]


async def settle(web: Web, path: str) -> None:
    """Whatever invoice it shows is paid."""
    rows = await web.gateway.pool.fetch(
        "select payment_hash from invoices where session_id = $1 and state = 'open'", id_of(path)
    )
    for row in rows:
        web.node.settle(bytes(row["payment_hash"]))
    assert rows


async def until(browser: Browser, path: str, words: str) -> Page:
    page = await browser.get(path)
    async with asyncio.timeout(PATIENCE_S):
        while words not in page.text:
            await asyncio.sleep(0.05)
            page = await browser.get(path)
    return page


async def funded(web: Web, browser: Browser, deposit: str = "1,000", **more: str) -> str:
    path = await opened(browser, deposit, **more)
    await settle(web, path)
    await until(browser, path, "to spend")
    return path


async def request(browser: Browser, path: str, work_input: str = '{"cost": 30}', work: str = "echo") -> Page:
    form = await browser.get(f"{path}?work={work}")
    return await browser.post(f"{path}/request", {"work": work, "key": form.hidden("key"), "input": work_input})


async def balance(web: Web, path: str) -> int:
    found = await web.gateway.pool.fetchval(
        "select balance_msat from accounts where code = $1", f"available:{id_of(path)}"
    )
    return int(found or 0) // 1000


async def test_from_the_deposit_to_the_refund(web: Web, browser: Browser) -> None:
    path = await opened(browser)
    page = await browser.get(path)
    assert "Pay in 1,000 sats" in page.text
    assert "lightning:lnbc" in page.text
    await settle(web, path)
    page = await until(browser, path, "1,000 sats to spend")
    assert "Paid in" in page.text
    sent = await request(browser, path)
    assert (sent.status, sent.headers["Location"]) == (303, f"{path}#last")
    page = await browser.get(path)
    assert "970 sats to spend" in page.text
    assert "The last request" in page.text
    assert (await browser.get(f"{path}/result")).headers["Content-Disposition"].startswith("attachment")

    await browser.post(f"{path}/topup", {"amount": "500"})
    await settle(web, path)
    await until(browser, path, "1,470 sats to spend")
    back = web.invoice(1470)
    closed = await browser.post(f"{path}/close", {"destination": back})
    assert closed.status == 303, closed.text
    page = await until(browser, path, "1,470 sats went back to you")
    assert web.sends(back) == 1
    assert "Open a new balance" in page.text


async def test_the_keys_are_in_two_cookies_that_scripts_can_not_read(web: Web, browser: Browser) -> None:
    form = await browser.get("/sessions")
    page = await browser.post("/sessions", {"key": form.hidden("key"), "deposit": "10"})
    path = page.headers["Location"]
    assert set(page.cookies) == {"boltworks_session", "boltworks_refund_key"}
    for cookie in page.cookies.values():
        assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == (path, True, "Lax")
        assert cookie.value not in path
    shown = (await browser.get(path)).text
    assert page.cookies["boltworks_refund_key"].value not in shown


async def test_the_keys_are_secure_behind_https(web: Web, browser: Browser) -> None:
    web.gateway.settings = web.gateway.settings.model_copy(update={"public_url": "https://pay.example.org"})
    form = await browser.get("/sessions")
    page = await browser.post("/sessions", {"key": form.hidden("key"), "deposit": "10"})
    assert [bool(cookie["secure"]) for cookie in page.cookies.values()] == [True, True]


async def test_the_start_page_leads_there_and_an_amount_is_one_touch(browser: Browser) -> None:
    assert 'href="/sessions"' in (await browser.get("/")).text
    assert 'href="/sessions?deposit=5%2C000"' in (await browser.get("/sessions")).body.decode()
    assert (
        'name="deposit" required maxlength="13" autocomplete="off" value="5,000"'
        in (await browser.get("/sessions?deposit=5%2C000")).text
    )
    assert "evil" not in (await browser.get("/sessions?deposit=evil")).text


async def test_a_node_that_is_away_loses_nothing_and_the_same_form_goes_on(web: Web, browser: Browser) -> None:
    form = {"key": (await browser.get("/sessions")).hidden("key"), "deposit": "10"}
    web.node.go_unavailable()
    refused = await browser.post("/sessions", form)
    assert (refused.status, "What you paid in stays yours" in refused.text) == (503, True)
    assert refused.hidden("key") == form["key"]
    web.node.come_back()
    page = await browser.post("/sessions", form)
    assert page.status == 303
    assert await web.gateway.pool.fetchval("select count(*) from sessions") == 1
    assert "lightning:lnbc" in (await browser.get(page.headers["Location"])).text


async def test_one_form_opens_one_balance(web: Web, browser: Browser) -> None:
    form = {"key": (await browser.get("/sessions")).hidden("key"), "deposit": "10"}
    pages = await asyncio.gather(*(browser.post("/sessions", form) for _ in range(3)))
    locations = {page.headers["Location"] for page in pages if page.status == 303}
    assert len(locations) == 1
    assert await web.gateway.pool.fetchval("select count(*) from sessions") == 1
    other = await browser.post("/sessions", {**form, "deposit": "11"})
    assert (other.status, "was sent before" in other.text) == (422, True)


@pytest.mark.parametrize("deposit", ["", "0", "-5", "many", "1.5 million", "100,000,001", "1e3"])
async def test_a_wrong_deposit_opens_nothing(web: Web, browser: Browser, deposit: str) -> None:
    form = await browser.get("/sessions")
    page = await browser.post("/sessions", {"key": form.hidden("key"), "deposit": deposit})
    assert (page.status, "Give a whole number of sats" in page.text) == (400, True)
    assert await web.gateway.pool.fetchval("select count(*) from sessions") == 0


@pytest.mark.parametrize(
    ("text", "sats"),
    [
        ("1000", 1000),
        ("1,000", 1000),
        ("1 000", 1000),
        ("1.000", 1000),
        ("1'000", 1000),
        (" 7 ", 7),
        ("1,234,567", 1234567),
    ],
)
def test_an_amount_as_people_write_it(text: str, sats: int) -> None:
    assert sats_of(text) == sats


@pytest.mark.parametrize("text", ["ten", "1.5", "0.5", "1,00", "1,0000", "1..000", "0,100", "1e3", "٣", "12.34", ""])
def test_an_amount_that_is_none(text: str) -> None:
    """What could be a part of a sat is asked again: 1.5 is not 15."""
    with pytest.raises(Problem):
        sats_of(text)


async def test_a_wrong_refund_address_is_told_before_anything_is_opened(web: Web, browser: Browser) -> None:
    form = await browser.get("/sessions")
    typed = {"key": form.hidden("key"), "deposit": "10", "refund_to": "<script>alert(1)</script>"}
    page = await browser.post("/sessions", typed)
    assert page.status == 422
    assert "<script>alert" not in page.body.decode()
    assert await web.gateway.pool.fetchval("select count(*) from sessions") == 0


ADDRESSES = ("", "/fragment", "/events", "/result")
ACTIONS = ("/topup", "/request", "/close", "/demo-pay", "/demo-refund")


async def test_a_stranger_sees_and_does_nothing(web: Web, browser: Browser, stranger: Browser) -> None:
    path = await funded(web, browser)
    other = await opened(stranger)
    stolen = {cookie.key: cookie.value for cookie in stranger.session.cookie_jar}
    jar = "; ".join(f"{name}={value}" for name, value in stolen.items())
    for suffix in ADDRESSES:
        page = await stranger.get(path + suffix, Cookie=jar)
        assert page.status == 401, suffix
        assert "1,000 sats" not in page.text
    for suffix in ACTIONS:
        page = await stranger.post(path + suffix, {"amount": "5", "destination": web.invoice(1000)}, Cookie=jar)
        assert page.status == 401, suffix
    assert "does not hold this balance's key" in (await stranger.get(path)).text
    assert (await stranger.get("/sessions/" + "x" * 22)).status == 404
    assert (await stranger.get("/sessions/nothing")).status == 404
    assert await balance(web, path) == 1000
    assert "Pay in" in (await stranger.get(other)).text


async def test_the_token_alone_names_no_destination(web: Web, browser: Browser, stranger: Browser) -> None:
    path = await funded(web, browser)
    token = next(cookie.value for cookie in browser.session.cookie_jar if cookie.key == "boltworks_session")
    cookie = f"boltworks_session={token}"
    assert (await stranger.get(path, Cookie=cookie)).status == 200
    taken = await stranger.post(f"{path}/close", {"destination": web.invoice(1000)}, Cookie=cookie)
    assert taken.status == 401
    assert await balance(web, path) == 1000


async def test_other_sites_press_no_button(web: Web, browser: Browser) -> None:
    path = await funded(web, browser)
    for suffix in ACTIONS:
        page = await browser.post(path + suffix, {}, Sec_Fetch_Site="cross-site")
        assert page.status == 403, suffix
    assert (await browser.post("/sessions", {"deposit": "10"}, Origin="https://evil.example")).status == 403
    assert await balance(web, path) == 1000


async def test_a_reloaded_form_address_leads_back(browser: Browser) -> None:
    path = await opened(browser)
    for suffix in ACTIONS:
        page = await browser.get(path + suffix)
        assert (page.status, page.headers["Location"]) == (303, path)


async def test_one_form_runs_one_request(web: Web, browser: Browser) -> None:
    path = await funded(web, browser)
    form = {"work": "echo", "key": (await browser.get(path)).hidden("key"), "input": '{"cost": 30}'}
    for _ in range(2):
        assert (await browser.post(f"{path}/request", form)).status == 303
    assert (await balance(web, path), len(web.service.orders)) == (970, 1)


async def test_a_form_sent_again_while_it_runs_is_charged_once(web: Web, browser: Browser) -> None:
    path = await funded(web, browser)
    typed = '{"cost": 30, "hold": true}'
    form = {"work": "echo", "key": (await browser.get(path)).hidden("key"), "input": typed}
    first = asyncio.create_task(browser.post(f"{path}/request", form))
    await until(browser, path, "A request runs")
    again = await browser.post(f"{path}/request", form)
    assert (again.status, "it counts once" in again.text, "No sats were taken" in again.text) == (409, True, False)
    web.service.release.set()
    assert (await first).status == 303
    shown_again = {**form, "key": again.hidden("key")}
    assert (await browser.post(f"{path}/request", shown_again)).status == 303
    assert (await balance(web, path), len(web.service.orders)) == (970, 1)


async def test_a_form_whose_input_was_changed_asks_before_it_runs_again(web: Web, browser: Browser) -> None:
    path = await funded(web, browser)
    form = {"work": "echo", "key": (await browser.get(path)).hidden("key"), "input": '{"cost": 30}'}
    assert (await browser.post(f"{path}/request", form)).status == 303
    changed = {**form, "input": '{"cost": 40}'}
    asked = await browser.post(f"{path}/request", changed)
    assert (asked.status, "ran a request before" in asked.text) == (422, True)
    assert await balance(web, path) == 970
    assert (await browser.post(f"{path}/request", {**changed, "key": asked.hidden("key")})).status == 303
    assert await balance(web, path) == 930


async def test_what_is_missing_is_said_also_when_there_is_no_invoice_for_it(web: Web, browser: Browser) -> None:
    path = await funded(web, browser, "40")
    web.node.go_unavailable()
    page = await request(browser, path)
    assert page.status == 402
    assert "60 sats more, and it can run. Top up, then run it again. Nothing was charged." in page.text
    assert "#pay" not in page.text
    web.node.come_back()
    assert 'href="#pay">Pay the missing 60 sats' in (await request(browser, path)).text


async def test_what_the_balance_does_not_cover_shows_the_invoice_for_it(web: Web, browser: Browser) -> None:
    path = await funded(web, browser, "40")
    page = await request(browser, path)
    assert page.status == 402
    assert "Top up" in page.text
    assert re.search(r'<p class="amount">60 ', page.body.decode())
    assert web.service.orders == []
    await settle(web, path)
    await until(browser, path, "100 sats to spend")


async def test_work_that_fails_says_why_and_costs_nothing(web: Web, browser: Browser) -> None:
    path = await funded(web, browser)
    page = await request(browser, path, '{"fail": true}')
    assert page.status == 502
    assert "The last request failed" in page.text
    assert "Nothing was charged" in page.text
    assert await balance(web, path) == 1000


@pytest.mark.parametrize(("work", "typed"), [("echo", "{"), ("echo", "[1]"), ("nothing", "{}"), ("looked-at", "{}")])
async def test_what_can_not_be_run_is_refused(web: Web, browser: Browser, work: str, typed: str) -> None:
    path = await funded(web, browser)
    form = {"work": work, "key": (await browser.get(path)).hidden("key"), "input": typed}
    page = await browser.post(f"{path}/request", form)
    assert page.status in (404, 422)
    assert await balance(web, path) == 1000
    assert web.service.orders == []


async def test_what_a_worker_wrote_stays_text(web: Web, browser: Browser) -> None:
    path = await funded(web, browser)
    await request(browser, path, '{"cost": 1, "x": "<script>alert(1)</script>"}')
    assert "<script>alert" not in (await browser.get(path)).body.decode()


async def test_given_up_before_its_deposit(web: Web, browser: Browser) -> None:
    path = await opened(browser)
    assert (await browser.post(f"{path}/close", {})).status == 303
    assert "Never paid" in (await browser.get(path)).text


async def test_a_cancel_that_comes_after_the_deposit_closes_nothing(web: Web, browser: Browser) -> None:
    path = await opened(browser)
    unpaid = (await browser.get(path)).hidden("unpaid")
    await settle(web, path)
    await until(browser, path, "to spend")
    late = await browser.post(f"{path}/close", {"unpaid": unpaid})
    assert (late.status, "nothing was cancelled" in late.text) == (409, True)
    assert "1,000 sats to spend" in late.text


async def test_a_topup_whose_answer_was_lost_is_the_same_invoice(web: Web, browser: Browser) -> None:
    path = await funded(web, browser)
    web.node.lose_next_answer()
    lost = await browser.post(f"{path}/topup", {"amount": "500"})
    assert (lost.status, "What you paid in stays yours" in lost.text) == (503, True)
    assert (await browser.post(f"{path}/topup", {"amount": "500"})).status == 303
    count = "select count(*) from invoices where session_id = $1 and purpose = 'topup'"
    assert await web.gateway.pool.fetchval(count, id_of(path)) == 1


async def test_another_amount_can_be_asked_for_while_one_waits(web: Web, browser: Browser) -> None:
    path = await funded(web, browser)
    await browser.post(f"{path}/topup", {"amount": "500"})
    assert "Another amount" in (await browser.get(path)).text
    await browser.post(f"{path}/topup", {"amount": "70"})
    page = await browser.get(path)
    assert re.search(r'<p class="amount">70 ', page.body.decode())
    await settle(web, path)
    await until(browser, path, "1,570 sats to spend")


async def test_a_refund_without_a_route_can_go_elsewhere(web: Web, browser: Browser) -> None:
    path = await funded(web, browser)
    first, second = web.invoice(1000), web.invoice(1000)
    web.node.next_outcomes.extend([NO_ROUTE] * 50)
    await browser.post(f"{path}/close", {"destination": first})
    page = await until(browser, path, "Or say where else they go")
    assert "1,000 sats are on their way" in page.text
    await wait_between_sends(web)
    web.node.next_outcomes.clear()
    assert (await browser.post(f"{path}/close", {"destination": second})).status == 303
    page = await until(browser, path, "1,000 sats went back to you")
    assert web.sends(second) == 1
    assert "Given back" in page.text


async def wait_between_sends(web: Web) -> None:
    """Until the attempt only waits for its next send, and will for long."""
    async with asyncio.timeout(PATIENCE_S):
        while not await web.gateway.pool.fetchval(
            "update refund_attempts set next_look_at = now() + interval '1 hour'"
            " where state = 'unfinished' and sends > 0 and sends = failed_sends and lease_until is null returning true"
        ):
            await asyncio.sleep(0.05)


async def test_the_same_topup_twice_is_one_invoice(web: Web, browser: Browser) -> None:
    path = await funded(web, browser)
    for _ in range(2):
        await browser.post(f"{path}/topup", {"amount": "500"})
    count = "select count(*) from invoices where session_id = $1 and purpose = 'topup'"
    assert await web.gateway.pool.fetchval(count, id_of(path)) == 1
    wrong = await browser.post(f"{path}/topup", {"amount": "lots"})
    assert (wrong.status, "Give a whole number of sats" in wrong.text) == (400, True)


async def test_closed_first_and_told_later_where_the_rest_goes(web: Web, browser: Browser) -> None:
    path = await funded(web, browser)
    await browser.post(f"{path}/close", {})
    assert "Take your 1,000 sats" in (await until(browser, path, "are yours")).text
    wrong = await browser.post(f"{path}/close", {"destination": web.invoice(999)})
    assert wrong.status == 422
    assert "1,000" in wrong.text
    await browser.post(f"{path}/close", {"destination": web.invoice(1000)})
    await until(browser, path, "1,000 sats went back to you")


async def test_a_wallet_fetches_the_rest_by_scanning(web: Web, browser: Browser, stranger: Browser) -> None:
    path = await funded(web, browser)
    await browser.post(f"{path}/close", {})
    page = await until(browser, path, "Scan this with your wallet")
    token = next(cookie.value for cookie in browser.session.cookie_jar if cookie.key == "boltworks_session")
    shown = await stranger.get(path, Cookie=f"boltworks_session={token}")
    assert (shown.status, "Scan this with your wallet" in shown.text) == (200, False)

    lnurl = re.search(r'id="withdraw" href="lightning:(LNURL[A-Z0-9]+)"', page.body.decode())
    assert lnurl is not None
    key = next(cookie.value for cookie in browser.session.cookie_jar if cookie.key == "boltworks_refund_key")
    by_token = await web.call("GET", "/api/sessions/current/refund/lnurl", token=token)
    assert (by_token[0], by_token[1]["code"]) == (403, "refund_key_invalid")
    headers = {"X-Refund-Key": key}
    status, offered = await web.call("GET", "/api/sessions/current/refund/lnurl", token=token, headers=headers)
    assert (status, offered["lnurl"], offered["amountSats"]) == (200, lnurl[1], 1000)

    async with browser.session.get(offered["url"]) as asked:
        first = await asked.json()
    assert (first["minWithdrawable"], first["maxWithdrawable"]) == (1_000_000, 1_000_000)
    invoices = [web.invoice(1000) for _ in range(5)]

    async def fetch(invoice: str) -> str:
        async with browser.session.get(first["callback"], params={"k1": first["k1"], "pr": invoice}) as answer:
            return str((await answer.json())["status"])

    assert sorted(await asyncio.gather(*map(fetch, invoices))) == ["ERROR"] * 4 + ["OK"]
    await until(browser, path, "1,000 sats went back to you")
    assert sum(web.sends(invoice) for invoice in invoices) == 1


async def test_an_idle_balance_stays_refundable(web: Web, browser: Browser) -> None:
    path = await funded(web, browser)
    pool = web.gateway.pool
    await pool.execute("update sessions set last_used_at = now() - interval '1 year' where id = $1", id_of(path))
    web.gateway.session_wake.set()
    page = await until(browser, path, "1,000 sats are yours")
    assert "Take your 1,000 sats" in page.text
    await browser.post(f"{path}/close", {"destination": web.invoice(1000)})
    await until(browser, path, "1,000 sats went back to you")


async def test_events_tell_of_the_deposit_and_of_each_request(web: Web, browser: Browser) -> None:
    path = await opened(browser)
    async with browser.session.get(f"{browser.url}{path}/events") as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"

        async def until_said(words: str) -> None:
            async with asyncio.timeout(PATIENCE_S):
                while words not in (line := (await stream.content.readline()).decode()):
                    assert line, "the stream ended"

        await until_said('"state": "awaiting_deposit"')
        await settle(web, path)
        await until_said('"balanceSats": 1000')
        await request(browser, path)
        await until_said('"balanceSats": 970')


async def test_the_part_for_the_script_is_only_the_part(web: Web, browser: Browser) -> None:
    path = await funded(web, browser)
    part = await browser.get(f"{path}/fragment")
    assert (part.headers["X-Fragment"], "<html" in part.text, "to spend" in part.text) == ("1", False, True)
    answered = await browser.post(f"{path}/topup", {"amount": "50"}, X_Fragment="1")
    assert (answered.status, answered.headers["X-Fragment"], "<html" in answered.text) == (200, "1", False)


async def test_it_shows_programs_how(web: Web, browser: Browser) -> None:
    async with loud_model_server() as upstream:
        sell(web.gateway, upstream.url)
        path = await funded(web, browser)
        page = (await browser.get(path)).text
        token = next(cookie.value for cookie in browser.session.cookie_jar if cookie.key == "boltworks_session")
        assert f"Authorization: Bearer {token}" in page
        assert f"curl -s {web.gateway.settings.base_url}/v1/chat/completions" in page
        assert f'base_url="{web.gateway.settings.base_url}/v1", api_key="{token}"' in page
        assert (await web.call("GET", "/api/sessions/current", token=token))[1]["balanceSats"] == 1000


def session_view(**more: Any) -> SessionView:
    base: dict[str, Any] = {
        "id": "s",
        "state": "active",
        "balance_sats": 0,
        "held_sats": 0,
        "deposit_sats": 100,
        "refund_state": "none",
        "refund_amount_sats": 0,
        "created_at": None,
        "updated_at": None,
    }
    return SessionView.model_construct(**{**base, **more})


@pytest.mark.parametrize(
    ("more", "headline", "moving"),
    [
        ({"state": "awaiting_deposit"}, "Pay in 100 sats", True),
        ({"balance_sats": 1}, "1 sat to spend", True),
        ({"state": "closed", "refund_state": "pending", "refund_amount_sats": 1}, "1 sat is yours", True),
        ({"state": "closed", "refund_state": "paying", "refund_amount_sats": 1}, "1 sat is on its way", True),
        ({"state": "expired", "balance_sats": 1}, "1 sat is yours", False),
        ({"state": "closing"}, "Closing", True),
        ({"state": "closed"}, "Closed", False),
        ({"state": "closed", "refund_state": "pending", "refund_amount_sats": 5}, "5 sats are yours", True),
        (
            {"state": "closed", "refund_state": "pending", "refund_amount_sats": 5, "refund_to": "a@b"},
            "5 sats go back to you",
            True,
        ),
        (
            {
                "state": "closed",
                "refund_state": "pending",
                "refund_amount_sats": 5,
                "refund_to": "a@b",
                "refund_problem": "no",
            },
            "5 sats are yours",
            True,
        ),
        ({"state": "closed", "refund_state": "paying", "refund_amount_sats": 5}, "5 sats are on their way", True),
        ({"state": "closed", "refund_state": "paid", "refund_amount_sats": 5}, "5 sats went back to you", False),
        ({"state": "expired"}, "Never paid", False),
        ({"state": "expired", "ever_paid": True}, "Closed", False),
        ({"state": "expired", "balance_sats": 9}, "9 sats are yours", False),
    ],
)
def test_the_story_of_a_session(more: dict[str, Any], headline: str, moving: bool) -> None:
    more = dict(more)
    ever_paid = more.pop("ever_paid", False)
    told = story_of(session_view(**{"refund_to": None, "refund_problem": None, **more}), ever_paid=ever_paid)
    assert (told.headline, told.moving) == (headline, moving)


async def test_a_lost_balance_is_found_by_its_payment(web: Web, browser: Browser, stranger: Browser) -> None:
    path = await funded(web, browser)
    row = await web.gateway.pool.fetchrow(
        "select payment_request, preimage from invoices where session_id = $1", id_of(path)
    )
    proof = {"invoice": row["payment_request"], "preimage": bytes(row["preimage"]).hex()}
    assert (await stranger.post("/find", {**proof, "invoice": web.invoice(5)})).status == 404
    found = await stranger.post("/find", proof)
    assert (found.status, found.headers["Location"]) == (303, path)
    assert set(found.cookies) == {"boltworks_session", "boltworks_refund_key"}
    await stranger.post(f"{path}/close", {"destination": web.invoice(1000)})
    await until(stranger, path, "1,000 sats went back to you")


async def test_a_top_up_proves_nothing(web: Web, browser: Browser, stranger: Browser) -> None:
    """A token is for spending: whoever has it can ask for a top-up and pay it himself."""
    path = await funded(web, browser)
    await browser.post(f"{path}/topup", {"amount": "5"})
    pool, topup = web.gateway.pool, "from invoices where purpose = 'topup'"
    web.node.settle(bytes(await pool.fetchval(f"select payment_hash {topup}")))
    async with asyncio.timeout(PATIENCE_S):
        while await pool.fetchval(f"select state {topup}") != "settled":
            await asyncio.sleep(0.02)
    row = await pool.fetchrow(f"select payment_request, preimage {topup}")
    proof = {"invoice": row["payment_request"], "preimage": bytes(row["preimage"]).hex()}
    refused = await stranger.post("/find", proof)
    assert (refused.status, refused.cookies) == (404, {})


async def test_the_invoice_of_an_l402_token_opens_no_page(web: Web, stranger: Browser) -> None:
    """Whoever asked from the same address knows it, too."""
    status, challenge = await web.call("GET", "/v1/models")
    assert status == 402
    invoice = challenge["error"]["invoice"]
    web.node.settle(bytes.fromhex(invoice["paymentHash"]))
    pool, payment_hash = web.gateway.pool, bytes.fromhex(invoice["paymentHash"])
    async with asyncio.timeout(PATIENCE_S):
        while await pool.fetchval("select state from invoices where payment_hash = $1", payment_hash) != "settled":
            await asyncio.sleep(0.02)
    preimage = bytes(await pool.fetchval("select preimage from invoices where payment_hash = $1", payment_hash)).hex()
    refused = await stranger.post("/find", {"invoice": invoice["paymentRequest"], "preimage": preimage})
    assert (refused.status, refused.cookies) == (404, {})


@pytest.mark.parametrize("path", ["/sessions/a%0d%0aX:1/topup", "/sessions/%00/close", "/jobs/a%0d%0aX:1/cancel"])
async def test_an_id_that_is_none_leads_nowhere(browser: Browser, path: str) -> None:
    async with browser.session.get(URL(browser.url + path, encoded=True), allow_redirects=False) as answer:
        assert answer.status == 404
