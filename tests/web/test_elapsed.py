"""How long work runs already, on the pages: since when, and what happens if it takes too long."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import datetime

import pytest
import pytest_asyncio

from gateway.pages.elapsed import span
from gateway.pages.rendering import rfc3339, utc
from tests.web.conftest import Web
from tests.web.test_pages import Browser, Page, new_session
from tests.web.test_session_pages import funded, id_of, until

TOO_LONG = "If one try takes longer than 10 minutes, it is ended: the work has failed, and costs nothing."


@pytest_asyncio.fixture
async def browser(web: Web) -> AsyncIterator[Browser]:
    async with new_session() as session:
        yield Browser(session, web.url)


def since(page: Page) -> str:
    """What the script counts from."""
    found = re.search(r'data-since="([^"]+)"', page.text)
    assert found is not None, page.text
    return found[1]


@pytest.mark.parametrize(
    ("length_s", "words"),
    [
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (90, "90 seconds"),
        (600, "10 minutes"),
        (3600, "1 hour"),
        (5400, "90 minutes"),
        (86_400, "24 hours"),
    ],
)
def test_spans_in_words(length_s: int, words: str) -> None:
    assert span(length_s) == words


async def test_a_job_says_since_when_it_runs(web: Web, browser: Browser) -> None:
    path = await browser.bought("echo", '{"hold": true}')
    payment_hash = await web.gateway.pool.fetchval("select payment_hash from invoices where job_id = $1", id_of(path))
    web.node.settle(bytes(payment_hash))
    page = await until(browser, path, "Working on it")
    settled_at: datetime = await web.gateway.pool.fetchval(
        "select settled_at from invoices where job_id = $1", id_of(path)
    )
    assert since(page) >= rfc3339(settled_at)
    assert "Running since <time" in page.text
    assert TOO_LONG in page.text

    began = since(page)
    await browser.post(f"{path}/refund", {"destination": web.invoice(0)})
    assert since(await browser.get(path)) == began
    web.service.release.set()
    assert "data-since" not in (await until(browser, path, "Done")).text


async def test_a_request_of_a_balance_says_since_when_it_runs(web: Web, browser: Browser) -> None:
    path = await funded(web, browser)
    key = (await browser.get(path)).hidden("key")
    running = asyncio.create_task(
        browser.post(f"{path}/request", {"work": "echo", "key": key, "input": '{"hold": true}'})
    )
    await web.service.arrived.wait()
    page = await browser.get(path)
    began: datetime = await web.gateway.pool.fetchval(
        "select created_at from session_requests where session_id = $1", id_of(path)
    )
    assert since(page) == rfc3339(began)
    assert utc(began) in page.text
    assert TOO_LONG in page.text
    web.service.release.set()
    await running
    assert "data-since" not in (await browser.get(path)).text
