"""Fiat beside sats, from a source on loopback that does what it is told: shown while it is known, and nowhere else."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web as server

from gateway.cli import doctor
from gateway.fiat.keep import FiatRate
from gateway.fiat.rate import BadRate
from gateway.fiat.source import MAX_BYTES, NoAnswer, Source, ask
from tests.waiting import PATIENCE_S
from tests.web import free_tier
from tests.web.conftest import Web
from tests.web.test_pages import Browser, Page, new_session, pay, until

GOOD = b'{"bitcoin": {"eur": 65000.00}}'
POINTER = "/bitcoin/eur"


@dataclass
class Prices:
    """Answers `body` with `status`; waits for `release` while it is told to `hold`."""

    url: str = ""
    body: bytes = GOOD
    status: int = 200
    hold: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0

    async def answer(self, _: server.Request) -> server.Response:
        self.asked += 1
        if self.hold:
            await self.release.wait()
        return server.Response(body=self.body, status=self.status, headers=self.headers)


@pytest_asyncio.fixture
async def prices() -> AsyncIterator[Prices]:
    source = Prices()
    app = server.Application()
    app.router.add_get("/{any:.*}", source.answer)
    runner = server.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    await server.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    source.url = f"http://{host}:{port}/price?key=hidden"
    yield source
    source.release.set()
    await runner.cleanup()


@pytest.fixture
def more_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Configured for a test that asks for `prices`, and off, as by default, for any other."""
    if "prices" not in request.fixturenames:
        return {}
    url = request.getfixturevalue("prices").url
    return {"fiat_currency": "EUR", "fiat_url": url, "fiat_pointer": POINTER}


@pytest_asyncio.fixture
async def browser(web: Web) -> AsyncIterator[Browser]:
    async with new_session() as session:
        yield Browser(session, web.url)


async def known(web: Web) -> None:
    """Until the task has its first rate."""
    async with asyncio.timeout(PATIENCE_S):
        while web.gateway.fiat.current is None:
            await asyncio.sleep(0.02)


def worth(page: Page) -> list[str]:
    return re.findall(r'<span class="fiat"[^>]*>([^<]*(?:< [^<]*)?)</span>', page.text)


async def refreshed(web: Web) -> None:
    fiat = web.gateway.fiat
    assert fiat.source is not None
    await fiat.refresh(web.gateway.session, fiat.source)


# --- the pages ---------------------------------------------------------------------------------------------


async def test_without_the_settings_no_page_knows_of_it(web: Web, browser: Browser) -> None:
    assert web.gateway.fiat.source is None
    path = await browser.bought("echo", '{"cost": 30}')
    for address in ("/", "/pool", "/sessions", path, f"{path}/fragment"):
        page = await browser.get(address)
        assert page.status == 200
        assert worth(page) == []
        assert "≈" not in page.text


async def test_it_stands_beside_the_sats_where_a_person_decides(web: Web, browser: Browser, prices: Prices) -> None:
    await known(web)
    start = await browser.get("/")
    assert 'at most 100 sats <span class="fiat"' in start.text
    assert worth(start)[:2] == ["≈ €0.06", "≈ €0.06"]
    assert "One bitcoin is €65,000.00 (" in start.text
    offer = await browser.post("/estimate", {"work": "echo", "input": "{}"})
    assert re.search(r'You pay</dt><dd>100 sats <span class="fiat"[^>]*>≈ €0.06</span></dd>', offer.text)
    assert "The free pool pays</dt><dd>0 sats</dd>" in offer.text

    path = await browser.bought("echo", '{"cost": 30}')
    job = await browser.get(path)
    assert re.search(r'<p class="amount">100 <small>sats</small> <span class="fiat" title="[^"]*">≈ €0.06', job.text)
    part = await browser.get(f"{path}/fragment")
    assert worth(part) == worth(job)
    assert len(worth(job)) == 2
    assert [len(worth(await browser.get(address))) for address in ("/sessions", "/docs")] == [3, 0]


async def test_the_pool_and_a_balance(web: Web, browser: Browser, prices: Prices) -> None:
    await known(web)
    assert worth(await browser.get("/pool")) == []
    await free_tier.fund(web, 1_000_000)
    assert worth(await browser.get("/pool")) == ["≈ €650.00"]
    form = {"key": (await browser.get("/sessions")).hidden("key"), "deposit": "5,000"}
    path = (await browser.post("/sessions", form)).headers["Location"]
    assert "≈ €3.25" in worth(await browser.get(path))
    session_id = path.rpartition("/")[2]
    paid = await web.gateway.pool.fetchval("select payment_hash from invoices where session_id = $1", session_id)
    web.node.settle(bytes(paid))
    active = await until(browser, path, "5,000 sats to spend")
    assert re.search(r'id="balance">5,000 sats <span class="fiat"[^>]*>≈ €3.25', active.text)


async def test_in_german(web: Web, browser: Browser, prices: Prices) -> None:
    await known(web)
    page = await browser.get("/", Accept_Language="de")
    assert worth(page)[0] == "≈ 0,06\xa0€"
    assert "Ein Bitcoin kostet 65.000,00\xa0€" in page.text


async def test_less_than_a_cent_is_told_safely(web: Web, browser: Browser, prices: Prices) -> None:
    await known(web)
    page = await browser.get("/?work=markdown-pdf")
    assert '10 sats a page <span class="fiat"' in page.body.decode()
    assert ">&lt; €0.01</span>" in page.body.decode()


async def test_programs_and_receipts_never_see_it(web: Web, browser: Browser, prices: Prices) -> None:
    await known(web)
    path = await browser.bought("echo", '{"cost": 30}')
    await pay(web, path)
    await until(browser, path, "70 sats are yours")
    receipt = json.loads((await browser.get(f"{path}/receipt")).body)
    _, estimate = await web.call("POST", "/api/estimate", {"work": "echo", "input": {}})
    _, job = await web.call("POST", "/api/jobs", {"work": "echo", "input": {}})
    _, pool = await web.call("GET", "/api/pool")
    for said in (receipt, estimate, job, pool):
        assert not re.search("eur|fiat|€|65000", json.dumps(said), re.IGNORECASE)


async def test_a_rate_that_is_too_old_is_shown_no_more(web: Web, browser: Browser, prices: Prices) -> None:
    await known(web)
    prices.status = 500
    await refreshed(web)
    assert worth(await browser.get("/"))
    old = datetime.now(UTC) + timedelta(seconds=901)
    web.gateway.fiat.now = lambda: old
    page = await browser.get("/")
    assert (worth(page), "fiat-note" in page.text) == ([], False)
    prices.status = 200
    await refreshed(web)
    assert worth(await browser.get("/"))


async def test_a_source_that_is_slow_holds_up_no_page(web: Web, browser: Browser, prices: Prices) -> None:
    await known(web)
    prices.hold = True
    asking = asyncio.create_task(refreshed(web))
    assert (await browser.get("/")).status == 200
    assert not asking.done()
    prices.release.set()
    await asking


# --- the source --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [GOOD, b'{"bitcoin": {"eur": "65000.00"}}'], ids=["number", "text"])
async def test_a_good_answer(http: aiohttp.ClientSession, prices: Prices, body: bytes) -> None:
    prices.body = body
    assert str(await ask(http, Source("EUR", prices.url, POINTER))) == "65000.00"


BAD = {
    "missing pointer": ({"body": b'{"bitcoin": {"usd": 1}}'}, BadRate, "nothing at /bitcoin/eur"),
    "not JSON": ({"body": b"<html>"}, BadRate, "not JSON"),
    "negative": ({"body": b'{"bitcoin": {"eur": -65000}}'}, BadRate, "can not be the price"),
    "NaN": ({"body": b'{"bitcoin": {"eur": NaN}}'}, BadRate, "not JSON"),
    "text NaN": ({"body": b'{"bitcoin": {"eur": "NaN"}}'}, BadRate, "not a number"),
    "huge": ({"body": GOOD + b" " * MAX_BYTES}, BadRate, "too long"),
    "broken encoding": ({"headers": {"Content-Encoding": "gzip"}}, NoAnswer, "can not be reached"),
    "500": ({"status": 500}, NoAnswer, "status 500"),
    "404": ({"status": 404}, NoAnswer, "status 404"),
    "elsewhere": ({"status": 302, "headers": {"Location": "/else"}}, NoAnswer, "status 302"),
}


@pytest.mark.parametrize(("told", "kind", "words"), BAD.values(), ids=BAD)
async def test_a_bad_answer_is_refused_in_plain_words(
    http: aiohttp.ClientSession, prices: Prices, told: dict[str, Any], kind: type[Exception], words: str
) -> None:
    for name, value in told.items():
        setattr(prices, name, value)
    with pytest.raises(kind, match=words):
        await ask(http, Source("EUR", prices.url, POINTER))
    assert prices.asked == 1


async def test_no_answer_in_time_is_one(http: aiohttp.ClientSession, prices: Prices) -> None:
    prices.hold = True
    with pytest.raises(NoAnswer, match="in time"):
        await ask(http, Source("EUR", prices.url, POINTER, timeout_s=0.05))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://a..b/"])
async def test_a_source_that_can_not_be_reached(http: aiohttp.ClientSession, url: str) -> None:
    with pytest.raises(NoAnswer, match="can not be reached"):
        await ask(http, Source("EUR", url, POINTER))


async def test_trouble_is_logged_when_it_changes_and_without_the_key(
    http: aiohttp.ClientSession, prices: Prices, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source("EUR", prices.url, POINTER)
    fiat = FiatRate(source, refresh_s=300, max_age_s=900)
    with caplog.at_level(logging.INFO, logger="gateway.fiat"):
        for status, body in (
            (200, GOOD),
            (500, GOOD),
            (500, GOOD),
            (200, b"{}"),
            (200, b"{}"),
            (200, GOOD),
            (200, GOOD),
        ):
            prices.status, prices.body = status, body
            await fiat.refresh(http, source)
            assert fiat.current is not None
    said = [record.message for record in caplog.records if record.name.startswith("gateway.fiat")]
    assert [line.partition("127.0.0.1")[2] for line in said] == [
        ": It answered with status 500.",
        ": Its answer has nothing at /bitcoin/eur.",
        ", answers again",
    ]
    assert "hidden" not in caplog.text


async def test_before_the_first_answer_there_is_none(http: aiohttp.ClientSession, prices: Prices) -> None:
    source = Source("EUR", prices.url, POINTER)
    fiat = FiatRate(source, refresh_s=300, max_age_s=900)
    assert fiat.current is None
    prices.body = b"{}"
    await fiat.refresh(http, source)
    assert fiat.current is None


async def test_without_a_source_nothing_is_asked(http: aiohttp.ClientSession, prices: Prices) -> None:
    await FiatRate(None, refresh_s=300, max_age_s=900).run(http)
    assert prices.asked == 0


# --- the doctor --------------------------------------------------------------------------------------------


async def test_the_doctor_asks_it(web: Web, prices: Prices) -> None:
    (well,) = await doctor._fiat(web.gateway.settings)
    assert (well.level, well.says) == ("ok", "127.0.0.1 says 65000.00 EUR for one bitcoin")
    prices.status = 503
    (ill,) = await doctor._fiat(web.gateway.settings)
    assert (ill.level, ill.says) == ("warning", "127.0.0.1: It answered with status 503.")
    off = web.gateway.settings.model_copy(update={"fiat_currency": None, "fiat_url": None, "fiat_pointer": None})
    assert await doctor._fiat(off) == []
