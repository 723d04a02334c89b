"""axe-core finds nothing serious on any page, public or the operator's, in any of its states."""

from __future__ import annotations

import json
import re
from pathlib import Path

import asyncpg
from playwright.async_api import Page, expect

from lightning.regtest.control import AsyncControl
from tests.browser.axe import grave_findings
from tests.browser.conftest import Visit, Visiting
from tests.gateways import GatewayProcess
from tests.services import WorkService

WAIT_MS = 30_000
LISTS = ("refunds", "jobs", "sessions", "invoices", "identities", "grants", "book", "webhooks", "deliveries", "actions")
ROOMS = ("", "pool", "reconciliation", "plots", "logins", f"identities/{'ab' * 32}", *LISTS)


async def says(page: Page, words: str) -> None:
    await expect(page.get_by_role("heading", level=1)).to_contain_text(words, timeout=WAIT_MS)


async def offer(visit: Visit, **work_input: object) -> None:
    """Up to the price of the work `echo`."""
    await visit.open("/?work=echo")
    await visit.page.get_by_label("Input").fill(json.dumps(work_input))
    await visit.page.get_by_role("button", name="See the price").click()
    await expect(visit.page.get_by_role("heading", name="At most")).to_be_visible()


async def buy(visit: Visit, **work_input: object) -> None:
    await offer(visit, **work_input)
    await visit.page.get_by_role("button", name=re.compile("Buy for")).click()
    await says(visit.page, "Pay 100 sats")


async def pay_with_demo_wallet(page: Page) -> None:
    await page.get_by_role("button", name="Pay with the demo wallet").click()


async def test_axe_sees_what_is_wrong(visiting: Visiting) -> None:
    async with visiting() as visit:
        await visit.open("/")
        await visit.page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<button></button>')")
        found = await grave_findings(visit.page)
        assert len(found) == 4
        assert all("button-name" in words for words in found)


async def test_pages_that_anybody_opens(visiting: Visiting) -> None:
    async with visiting() as visit:
        for path in ("/", "/?work=markdown-pdf", "/sessions", "/pool", "/find", "/docs", "/nothing", "/operator/login"):
            await visit.open(path)
            assert await grave_findings(visit.page) == []
        await offer(visit, cost=30)
        assert await grave_findings(visit.page) == []
        visit.forgive("status of 404")


async def test_a_job_from_its_invoice_to_its_refund(
    visiting: Visiting, service: WorkService, payer: AsyncControl
) -> None:
    async with visiting() as visit:
        page = visit.page
        await buy(visit, cost=30, hold=True)
        assert await grave_findings(page) == []
        await pay_with_demo_wallet(page)
        await says(page, "Working on it")
        await page.get_by_text("Say now where unused sats go").click()
        assert await grave_findings(page) == []
        service.release.set()
        await says(page, "70 sats are yours to take back")
        await page.get_by_label("An invoice of your wallet").fill(await payer.invoice(71))
        await page.get_by_role("button", name="Send me 70 sats").click()
        await expect(page.get_by_role("alert")).to_contain_text("Make an invoice over 70 sats")
        assert await grave_findings(page) == []
        await page.get_by_role("button", name="Refund to the demo wallet").click()
        await says(page, "went back to you")
        assert await grave_findings(page) == []
        visit.forgive("status of 422")


async def test_a_job_that_ends_badly(visiting: Visiting) -> None:
    async with visiting() as visit:
        page = visit.page
        await buy(visit, fail=True)
        await pay_with_demo_wallet(page)
        await says(page, "The work failed")
        assert await grave_findings(page) == []
        await buy(visit)
        await page.get_by_role("button", name="Cancel this job").click()
        await says(page, "This job ended unpaid")
        assert await grave_findings(page) == []
        job = page.url
        await visit.context.clear_cookies()
        await page.goto(job)
        await says(page, "does not hold this job's key")
        assert await grave_findings(page) == []
        visit.forgive("status of 401")


async def test_a_prepaid_balance(visiting: Visiting, payer: AsyncControl) -> None:
    async with visiting() as visit:
        page = visit.page
        await visit.open("/sessions")
        await page.get_by_label("How many sats to pay in").fill("1,000")
        await page.get_by_role("button", name="Get the invoice").click()
        await says(page, "Pay in 1,000 sats")
        assert await grave_findings(page) == []
        await pay_with_demo_wallet(page)
        await says(page, "1,000 sats to spend")
        assert await grave_findings(page) == []
        await page.locator("#try textarea").fill('{"cost": 30}')
        await page.get_by_role("button", name="Run it now").click()
        await says(page, "970 sats to spend")
        for folded in ("Show the token and how to use it", "Close, and take back the rest", "Top up"):
            await page.get_by_text(folded, exact=True).click()
        assert await grave_findings(page) == []
        await page.locator("#close").click()
        await says(page, "970 sats are yours")
        assert await grave_findings(page) == []
        await page.locator("#destination").fill(await payer.invoice(970))
        await page.locator("#close").click()
        await says(page, "970 sats went back to you")
        assert await grave_findings(page) == []


async def test_the_page_of_a_fault_that_passes(visiting: Visiting, running_gateway: GatewayProcess) -> None:
    """The database does not answer in time: 503, and words about the money."""
    database = await asyncpg.connect(running_gateway.dsn)
    async with visiting() as visit:
        await buy(visit)
        async with database.transaction():
            await database.execute("lock table jobs in access exclusive mode")
            answer = await visit.page.reload()
        assert answer is not None
        assert answer.status == 503
        assert await grave_findings(visit.page) == []
        visit.forgive("status of 503|ERR_INCOMPLETE")
    await database.close()


async def log_in(visit: Visit, key: str) -> None:
    await visit.open("/operator/login")
    await visit.page.get_by_label("Operator key").fill(key)
    await visit.page.get_by_role("button", name="Log in").click()
    await says(visit.page, "Overview")


async def test_the_operators_pages(visiting: Visiting, tmp_path: Path) -> None:
    key = (tmp_path / "data/secrets/operator_key").read_text().strip()
    async with visiting() as visit:
        await buy(visit, cost=30)
        await pay_with_demo_wallet(visit.page)
        await says(visit.page, "are yours to take back")
        await log_in(visit, key)
        for room in ROOMS:
            await visit.open(f"/operator/{room}".rstrip("/"))
            assert await grave_findings(visit.page) == []
        await visit.open("/operator/pool")
        await visit.page.get_by_label("Amount in sats").fill("12,345")
        await visit.page.get_by_role("button", name="Go on").click()
        await says(visit.page, "Top up the free pool?")
        assert await grave_findings(visit.page) == []
        await visit.open("/operator/nothing")
        assert await grave_findings(visit.page) == []
        visit.forgive("status of 404")
