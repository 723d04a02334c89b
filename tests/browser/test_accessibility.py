"""axe-core on every page, in each of its states: no serious finding, in light and dark, on a desk and on a phone."""

from __future__ import annotations

from importlib import resources
from typing import Any

import asyncpg
import pytest
from playwright.async_api import Page, expect

from lightning.regtest.control import AsyncControl
from tests.browser.conftest import Visit, Visiting
from tests.browser.test_job_page import buy_echo, says
from tests.browser.test_session_page import open_one
from tests.gateways import GatewayProcess
from tests.services import WorkService

AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SHAPES = [(1280, "light"), (390, "dark")]
LISTS = (
    *("refunds", "jobs", "sessions", "invoices", "identities", "grants", "book", "actions", "webhooks", "deliveries"),
    *("pool", "reconciliation", "plots", "logins", "events", "events?live=1", "actions?live=1"),
)


async def serious(page: Page) -> list[str]:
    """What axe finds that is serious or critical: the rule, where, and why."""
    await page.evaluate(AXE)
    found: dict[str, Any] = await page.evaluate("rules => axe.run(document, { runOnly: rules })", RULES)
    assert len(found["passes"]) > 10
    return [
        f"{page.url}: {violation['id']} at {node['target']}: {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


async def clean(visit: Visit, *paths: str) -> None:
    """The page that is open, or each of these."""
    for path in paths or (None,):
        if path is not None:
            await visit.open(path)
        assert await serious(visit.page) == []
        await visit.fits()


@pytest.mark.parametrize(("width", "scheme"), SHAPES)
async def test_the_pages_of_a_payer(
    visiting: Visiting, payer: AsyncControl, service: WorkService, width: int, scheme: str
) -> None:
    async with visiting(viewport={"width": width, "height": 844}, color_scheme=scheme) as visit:
        page = visit.page
        await clean(visit, "/", "/?work=markdown-pdf", "/sessions", "/pool", "/find", "/docs")
        await visit.open("/nowhere")
        await clean(visit)
        visit.forgive("404")

        await visit.open("/?work=echo")
        await page.get_by_label("Input").fill('{"cost": 30, "hold": true}')
        await page.get_by_role("button", name="See the price").click()
        await clean(visit)
        await buy_echo(visit, cost=30, hold=True)
        await clean(visit)
        await payer.pay(await page.locator("#invoice").input_value())
        await service.arrived.wait()
        await says(page, "Working")
        await clean(visit)
        await visit.picture(f"working-{width}-{scheme}")
        service.release.set()
        await says(page, "Done, and")
        await clean(visit)

        await buy_echo(visit, fail=True)
        await payer.pay(await page.locator("#invoice").input_value())
        await expect(page.locator("#refund")).to_be_visible(timeout=30_000)
        await clean(visit)
        await page.locator("#destination").fill("nonsense")
        await page.locator("#send-refund").click()
        await expect(page.get_by_role("alert")).to_be_visible()
        await clean(visit)
        visit.forgive("422")
        await page.locator("#demo-refund").click()
        await says(page, "The work failed")
        await expect(page.locator(".steps")).to_contain_text("100 sats sent", timeout=30_000)
        await clean(visit)


async def test_the_pages_of_what_did_not_come_to_be(visiting: Visiting, running_gateway: GatewayProcess) -> None:
    """Cancelled, opened without its key, and asked for while the database does not answer."""
    async with visiting() as visit:
        page = visit.page
        await buy_echo(visit)
        database = await asyncpg.connect(running_gateway.dsn)
        async with database.transaction():
            await database.execute("lock table jobs in access exclusive mode")
            answer = await page.reload()
        await database.close()
        assert answer is not None
        assert answer.status == 503
        await clean(visit)
        visit.forgive("503|ERR_INCOMPLETE")
        await page.get_by_role("link", name="Try again").click()
        await page.get_by_role("button", name="Cancel this job").click()
        await says(page, "This job ended unpaid")
        await clean(visit)
        await visit.context.clear_cookies()
        await page.reload()
        await says(page, "does not hold this job's key")
        await clean(visit)
        visit.forgive("401")


@pytest.mark.parametrize(("width", "scheme"), SHAPES)
async def test_the_page_of_a_balance(visiting: Visiting, payer: AsyncControl, width: int, scheme: str) -> None:
    async with visiting(viewport={"width": width, "height": 844}, color_scheme=scheme) as visit:
        page = visit.page
        invoice = await open_one(visit, "1,000")
        await clean(visit)
        await payer.pay(invoice)
        await says(page, "1,000 sats to spend")
        for part in ("Top up", "Close, and take back the rest", "Show the token and how to use it"):
            await page.get_by_text(part, exact=True).click()
        await clean(visit)
        await page.locator("#try textarea").fill('{"cost": 0}')
        await page.get_by_role("button", name="Run it now").click()
        await expect(page.locator("#last")).to_contain_text("It cost you")
        await clean(visit)
        await page.get_by_text("Close, and take back the rest", exact=True).click()
        await page.locator("#close").click()
        await says(page, "are yours")
        await clean(visit)
        await page.locator("#demo-refund").click()
        await says(page, "went back to you")
        await clean(visit)


@pytest.mark.parametrize(("width", "scheme"), SHAPES)
async def test_the_pages_of_the_operator(
    visiting: Visiting, running_gateway: GatewayProcess, width: int, scheme: str
) -> None:
    key = (running_gateway.folder / "data/secrets/operator_key").read_text().strip()
    async with visiting(viewport={"width": width, "height": 844}, color_scheme=scheme) as visit:
        await clean(visit, "/operator/login")
        await visit.page.get_by_label("Operator key").fill(key)
        await visit.page.get_by_role("button", name="Log in").click()
        await visit.page.wait_for_url(f"{visit.url}/operator")
        await clean(visit, "/operator", *(f"/operator/{name}" for name in LISTS))
        await visit.open("/operator/pool")
        await visit.page.locator("input[name=amount_sats]").fill("1000")
        await visit.page.locator("main form button").first.click()
        await clean(visit)


async def test_what_is_wrong_is_found(visiting: Visiting) -> None:
    async with visiting() as visit:
        await visit.open("/find")
        await visit.page.evaluate("document.querySelector('label[for=preimage]').remove()")
        assert any("preimage" in finding for finding in await serious(visit.page))
