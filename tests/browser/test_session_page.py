"""The page of a prepaid balance in real headless Chromium, the payments on real nodes."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from lightning.regtest.control import AsyncControl
from tests.browser.conftest import Visit, Visiting

WAIT_MS = 30_000


async def says(page: Page, words: str) -> None:
    await expect(page.get_by_role("heading", level=1)).to_contain_text(words, timeout=WAIT_MS)


async def open_one(visit: Visit, sats: str) -> str:
    """The invoice that the page of the new balance shows."""
    await visit.open("/sessions")
    await visit.page.get_by_label("How many sats to pay in").fill(sats)
    await visit.fits()
    await visit.picture("session-open")
    await visit.page.get_by_role("button", name="Get the invoice").click()
    await visit.page.wait_for_url(f"{visit.url}/sessions/*")
    return await visit.page.locator("#invoice").input_value()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
async def test_paid_used_closed_without_a_reload(
    visiting: Visiting, payer: AsyncControl, width: int, scheme: str
) -> None:
    before = await payer.settled_balance_msat()
    async with visiting(viewport={"width": width, "height": 844}, color_scheme=scheme) as visit:
        page = visit.page
        invoice = await open_one(visit, "1,000")
        await visit.fits()
        await visit.picture(f"session-pay-{width}-{scheme}")
        await page.evaluate("window.sameDocument = true")
        await payer.pay(invoice)
        await says(page, "1,000 sats to spend")
        assert await page.evaluate("window.sameDocument")

        await page.locator("#try textarea").fill('{"cost": 30}')
        await page.get_by_role("button", name="Run it now").click()
        await says(page, "970 sats to spend")
        await expect(page.locator("#last")).to_contain_text("It cost you")
        await page.get_by_text("Show the token and how to use it").click()
        await expect(page.locator("#curl")).to_contain_text("Authorization: Bearer bw_session_")
        await visit.fits()
        await visit.picture(f"session-used-{width}-{scheme}")

        await page.evaluate("window.sameDocument = true")
        await page.get_by_text("Top up", exact=True).click()
        await page.get_by_label("Sats to add").fill("30")
        await page.locator("#topup").click()
        await expect(page.locator(".amount")).to_contain_text("30", timeout=WAIT_MS)
        await expect(page.get_by_role("button", name="Pay with this browser's wallet")).to_be_hidden()
        await visit.picture(f"session-topup-{width}-{scheme}")
        await payer.pay(await page.locator("#invoice").input_value())
        await says(page, "1,000 sats to spend")

        await page.get_by_text("Close, and take back the rest").click()
        await page.locator("#destination").fill(await payer.invoice(1000, memo="the rest"))
        await visit.picture(f"session-close-{width}-{scheme}")
        await page.locator("#close").click()
        await says(page, "1,000 sats went back to you")
        assert await page.evaluate("window.sameDocument")
        await visit.fits()
        await visit.picture(f"session-closed-{width}-{scheme}")
    assert before - await payer.settled_balance_msat() == 30_000


async def test_what_is_missing_is_paid_and_what_was_typed_is_still_there(
    visiting: Visiting, payer: AsyncControl
) -> None:
    async with visiting(viewport={"width": 390, "height": 844}) as visit:
        page = visit.page
        await payer.pay(await open_one(visit, "40"))
        await says(page, "40 sats to spend")
        await page.locator("#try textarea").fill('{"cost": 30}')
        await page.get_by_role("button", name="Run it now").click()
        await expect(page.get_by_role("alert")).to_contain_text("60 sats more, and it can run")
        visit.forgive("status of 402")
        await visit.fits()
        await visit.picture("session-missing-390")
        await page.get_by_role("link", name="Pay the missing 60 sats").click()
        await expect(page.locator(".qr-card")).to_be_in_viewport()
        await page.get_by_text("Another amount").click()
        await page.get_by_label("Sats to add").fill("77")
        invoice = await page.locator("#invoice").input_value()
        await page.evaluate("window.sameDocument = true")
        await payer.pay(invoice)
        await says(page, "100 sats to spend")
        assert await page.evaluate("window.sameDocument")
        await expect(page.locator("#try textarea")).to_have_value('{"cost": 30}')
        await page.get_by_role("button", name="Run it now").click()
        await says(page, "70 sats to spend")


async def test_an_amount_that_is_being_typed_survives_what_happens_meanwhile(
    visiting: Visiting, payer: AsyncControl
) -> None:
    async with visiting() as visit:
        page = visit.page
        await payer.pay(await open_one(visit, "300"))
        await says(page, "300 sats to spend")
        await page.get_by_text("Show the token and how to use it").click()
        token = await page.locator("#token").input_value()
        await page.get_by_text("Top up", exact=True).click()
        await page.get_by_label("Sats to add").fill("12")
        answer = await visit.context.request.post(
            f"{visit.url}/api/sessions/current/requests",
            headers={"Authorization": f"Bearer {token}"},
            data={"work": "echo", "input": {"cost": 30}},
        )
        assert answer.ok, await answer.text()
        await says(page, "270 sats to spend")
        await expect(page.get_by_label("Sats to add")).to_have_value("12")
        await expect(page.get_by_label("Sats to add")).to_be_focused()


async def test_without_javascript(visiting: Visiting, payer: AsyncControl) -> None:
    before = await payer.settled_balance_msat()
    async with visiting(java_script_enabled=False) as visit:
        page = visit.page
        await payer.pay(await open_one(visit, "100"))
        await says(page, "100 sats to spend")  # the page asks again by itself
        await page.get_by_text("Close, and take back the rest").click()
        await page.locator("#close").click()
        await says(page, "are yours")
        await page.locator("#destination").fill(await payer.invoice(100, memo="the rest"))
        await page.locator("#close").click()
        await says(page, "100 sats went back to you")
        await expect(page.get_by_role("link", name=re.compile("Open a new balance"))).to_be_visible()
    assert before == await payer.settled_balance_msat()
