"""The public pages in German on a phone, with longer words than English has: nothing is wider than the screen."""

from __future__ import annotations

import re

from playwright.async_api import expect

from tests.browser.conftest import Visiting

PHONE = {"width": 360, "height": 780}
WAIT_MS = 30_000


async def test_german_on_a_phone(visiting: Visiting) -> None:
    """Chosen by the switch; bought, paid, worked, refunded without a word of it lost when the page renews itself."""
    async with visiting(viewport=PHONE, color_scheme="light") as visit:
        page = visit.page
        await visit.open("/?work=echo")
        await page.get_by_role("link", name="Deutsch").click()
        await expect(page.get_by_role("heading", name="Arbeit für sats")).to_be_visible()
        assert page.url == f"{visit.url}/?work=echo"
        await visit.fits()
        await page.get_by_label("Eingabe").fill('{"cost": 30}')
        await page.get_by_role("button", name="Preis ansehen").click()
        await expect(page.get_by_role("heading", name="Höchstens 100 sats")).to_be_visible()
        await visit.fits()
        await visit.picture("german-offer-360")

        await page.get_by_role("button", name="Für 100 sats kaufen").click()
        headline = page.get_by_role("heading", level=1)
        await expect(headline).to_have_text("Zahlen Sie 100 sats, um zu beginnen")
        await expect(page.locator("[data-until]")).to_have_text(re.compile(r"Noch \d+ (Minuten|Sekunden)\."))
        await visit.fits()
        await visit.picture("german-pay-360")
        await page.get_by_role("button", name="Rechnung kopieren").click()
        await expect(page.get_by_role("status")).to_have_text("Kopiert")

        await page.get_by_role("button", name="Mit der Demo-Wallet bezahlen").click()
        await expect(headline).to_contain_text("70 sats liegen für Sie zum Abholen bereit", timeout=WAIT_MS)
        await visit.fits()
        await visit.picture("german-done-360")
        await page.get_by_role("button", name="An die Demo-Wallet erstatten").click()
        await expect(headline).to_have_text("Fertig, und 70 sats gingen an Sie zurück", timeout=WAIT_MS)
        await visit.fits()

        for path in ("/sessions", "/pool", "/find", "/docs"):
            await visit.open(path)
            await expect(page.locator("html")).to_have_attribute("lang", "de")
            await visit.fits()
        await visit.open("/find")
        await visit.picture("german-find-360")


async def test_from_right_to_left(visiting: Visiting) -> None:
    """No such catalogue is here yet; the sheet is ready for one."""
    async with visiting(viewport=PHONE, color_scheme="light") as visit:
        page = visit.page
        await visit.open("/?work=echo")
        await page.get_by_role("button", name="See the price").click()
        await page.get_by_role("button", name=re.compile("^Buy for")).click()
        await page.wait_for_url(f"{visit.url}/jobs/*")
        await page.evaluate("document.documentElement.dir = 'rtl'")
        await visit.fits()
        places = await page.locator(".steps .dot").evaluate_all(
            "dots => dots.map(dot => dot.getBoundingClientRect().x)"
        )
        assert places == sorted(places, reverse=True)
        invoice = page.locator("#invoice")
        assert await invoice.evaluate("field => getComputedStyle(field).direction") == "ltr"
        await visit.picture("right-to-left-360")
