"""axe-core on every page: no serious finding, in light and dark, on a desk and on a phone."""

from __future__ import annotations

from importlib import resources
from typing import Any

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
    *("pool", "reconciliation", "plots", "logins"),
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
        await page.locator("#close").click()
        await says(page, "are yours")
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


async def tab_to(page: Page, selector: str) -> None:
    """By the keyboard alone; each place on the way shows that it has the focus."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", await page.evaluate("document.activeElement.outerHTML")
        if await page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is not reached by the keyboard")


async def test_bought_and_refunded_by_the_keyboard(visiting: Visiting) -> None:
    async with visiting() as visit:
        page = visit.page
        await visit.open("/?work=echo")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.matches('.skip')")
        await page.keyboard.press("Enter")
        await tab_to(page, "#input")
        await page.keyboard.press("Control+A")
        await page.keyboard.type('{"cost": 30}')
        await tab_to(page, "form.order button")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="At most")).to_be_visible()
        await tab_to(page, "#offer button.primary")
        await page.keyboard.press("Enter")
        await says(page, "Pay 100 sats")
        await tab_to(page, "#demo-pay")
        await page.keyboard.press("Enter")
        await says(page, "Done, and")
        assert not await page.evaluate("document.activeElement === document.body")
        await tab_to(page, "#demo-refund")
        await page.keyboard.press("Enter")
        await says(page, "went back to you")


SHIFTS = """
window.shifted = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


async def test_nothing_jumps_while_a_page_is_drawn(visiting: Visiting) -> None:
    """What changes with the job's state may move; a page that was only opened may not."""
    async with visiting(viewport={"width": 390, "height": 844}) as visit:
        await visit.page.add_init_script(SHIFTS)
        await buy_echo(visit)
        for path in ("/", "/sessions", "/pool", visit.page.url.removeprefix(visit.url)):
            await visit.open(path)
            await visit.page.wait_for_load_state("networkidle" if not path.startswith("/jobs/") else "load")
            await visit.page.evaluate("document.fonts.ready")
            assert await visit.page.evaluate("window.shifted") < 0.1
