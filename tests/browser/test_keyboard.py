"""Without a mouse, and without jumps: the keyboard alone buys a job and takes the refund; nothing moves by itself."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import Page, expect

from lightning.regtest.control import AsyncControl
from tests.browser.conftest import Visit, Visiting
from tests.browser.test_job_page import says
from tests.services import WorkService

MOST_STOPS = 60
MOST_SHIFT = 0.1
"""What the web's own measure calls good."""

# Its answer is what the keyboard is on: its words, and whether a ring is drawn around it.
FOCUSED = """() => {
  const on = document.activeElement;
  const style = getComputedStyle(on);
  return { id: on.id, words: (on.labels?.[0] ?? on).textContent.trim(), tag: on.tagName,
           ring: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 };
}"""

# Shifts that followed a key or a click are the reader's own doing: the measure leaves them out.
MEASURE = """
window.shifted = 0;
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (entry.hadRecentInput) continue;
    window.shifted += entry.value;
    window.shifts.push([entry.value, ...entry.sources.map((source) => source.node?.outerHTML?.slice(0, 120))]);
  }
}).observe({ type: "layout-shift", buffered: true });
"""


async def tab_to(page: Page, words: str) -> None:
    """By the tab key, and each stop on the way is seen."""
    stops = []
    for _ in range(MOST_STOPS):
        await page.keyboard.press("Tab")
        focused = await page.evaluate(FOCUSED)
        if focused["tag"] == "BODY":
            continue
        assert focused["ring"], f"no ring around {focused}"
        stops.append(focused["words"])
        if words in focused["words"]:
            return
    raise AssertionError(f"{words!r} is not among {stops}")


async def assert_focus_kept(page: Page) -> None:
    assert (await page.evaluate(FOCUSED))["tag"] != "BODY"


async def test_bought_and_refunded_by_the_keyboard_alone(
    visiting: Visiting, service: WorkService, payer: AsyncControl
) -> None:
    async with visiting() as visit:
        page = visit.page
        await visit.open("/?work=echo")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
        await page.keyboard.press("Enter")
        await expect(page.locator("#content")).to_be_focused()

        await tab_to(page, "Input")
        await page.keyboard.press("ControlOrMeta+a")
        await page.keyboard.insert_text(json.dumps({"cost": 30, "hold": True}))
        await tab_to(page, "See the price")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="At most")).to_be_visible()
        await tab_to(page, "Buy for")
        await page.keyboard.press("Enter")
        await says(page, "Pay 100 sats")

        await tab_to(page, "Pay with the demo wallet")
        await page.keyboard.press("Enter")
        await says(page, "Working on it")
        await assert_focus_kept(page)
        await tab_to(page, "Say now where unused sats go")
        await page.keyboard.press("Enter")
        await tab_to(page, "An invoice of your wallet")
        await page.keyboard.insert_text("lnbc half typed")
        service.release.set()
        await says(page, "70 sats are yours to take back")
        await expect(page.locator("#destination")).to_be_focused()
        await page.keyboard.press("ControlOrMeta+a")
        await page.keyboard.insert_text(await payer.invoice(70))
        await tab_to(page, "Send me 70 sats")
        await page.keyboard.press("Enter")
        await says(page, "went back to you")
        await assert_focus_kept(page)


async def steady(visit: Visit) -> None:
    """Nothing on this page has jumped since it was opened."""
    await visit.page.evaluate("document.fonts.ready")
    await visit.page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    shifted = await visit.page.evaluate("window.shifted")
    assert shifted <= MOST_SHIFT, await visit.page.evaluate("window.shifts")


async def through_a_job(visit: Visit, service: WorkService, payer: AsyncControl) -> None:
    """Paid and worked from elsewhere: every change comes by itself."""
    page = visit.page
    await visit.open("/?work=echo")
    await page.get_by_label("Input").fill(json.dumps({"cost": 30, "hold": True}))
    await page.get_by_role("button", name="See the price").click()
    await page.get_by_role("button", name="Buy for").click()
    await says(page, "Pay 100 sats")
    await steady(visit)
    await payer.pay(await page.locator("#invoice").input_value())
    await says(page, "Working on it")
    await expect(page.locator("[data-since]")).to_contain_text("so far.")
    first = await page.locator("[data-since]").inner_text()
    await expect(page.locator("[data-since]")).not_to_have_text(first)
    await steady(visit)
    service.release.set()
    await says(page, "70 sats are yours to take back")
    await steady(visit)


async def through_a_balance(visit: Visit, payer: AsyncControl) -> None:
    page = visit.page
    await visit.open("/sessions")
    await page.get_by_label("How many sats to pay in").fill("1,000")
    await page.get_by_role("button", name="Get the invoice").click()
    await says(page, "Pay in 1,000 sats")
    await payer.pay(await page.locator("#invoice").input_value())
    await says(page, "1,000 sats to spend")
    await steady(visit)
    await page.locator("#try textarea").fill('{"cost": 30}')
    await page.get_by_role("button", name="Run it now").click()
    await says(page, "970 sats to spend")
    await steady(visit)


@pytest.mark.parametrize("size", [{"width": 1280, "height": 860}, {"width": 390, "height": 844}])
async def test_nothing_jumps(
    visiting: Visiting, service: WorkService, payer: AsyncControl, size: dict[str, int]
) -> None:
    """Neither while a page is drawn, nor while it follows what happens."""
    async with visiting(viewport=size) as visit:
        await visit.page.add_init_script(MEASURE)
        for path in ("/", "/pool", "/docs"):
            await visit.open(path)
            await steady(visit)
        await through_a_job(visit, service, payer)
        await through_a_balance(visit, payer)


async def test_a_jump_is_measured(visiting: Visiting) -> None:
    async with visiting() as visit:
        page = visit.page
        await page.add_init_script(MEASURE)
        await visit.open("/")
        push = "document.querySelector('main').insertAdjacentHTML('afterbegin', '<p>Jump</p>'.repeat(20))"
        await page.evaluate(push)
        await page.wait_for_function(f"window.shifted > {MOST_SHIFT}")
