"""The button for a new invoice on a phone: beside the countdown, and where an unpaid job has ended."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Visiting
from tests.browser.test_job_page import PHONE, buy_echo, says


@pytest.mark.parametrize("scripts", [True, False], ids=["with-javascript", "without"])
async def test_a_new_invoice_on_a_phone(visiting: Visiting, scripts: bool) -> None:
    async with visiting(viewport=PHONE, java_script_enabled=scripts) as visit:
        page = visit.page
        await buy_echo(visit, cost=30)
        first, old_invoice = page.url, await page.locator("#invoice").input_value()
        button = page.get_by_role("button", name="New invoice")
        await expect(button).to_be_visible()
        await visit.fits()
        await visit.picture(f"new-invoice-{'live' if scripts else 'plain'}")
        await button.dblclick()
        await page.wait_for_url(lambda url: url != first and "again" not in url)
        await says(page, "Pay 100 sats to start")
        second = page.url
        assert await page.locator("#invoice").input_value() != old_invoice

        await page.goto(first)
        await says(page, "This job ended unpaid")
        await expect(page.get_by_role("button", name="New invoice")).to_be_visible()
        await visit.fits()
        await visit.picture(f"ended-unpaid-{'live' if scripts else 'plain'}")
        await page.get_by_role("button", name="New invoice").click()
        await page.wait_for_url(second)

        await page.get_by_role("button", name="Pay with the demo wallet").click()
        await says(page, "70 sats are yours to take back")
