"""Logging in with a browser extension (NIP-07), which the test plays with a real key: the page's own script asks it."""

from __future__ import annotations

from typing import Any

from playwright.async_api import expect

from tests.browser.conftest import Visit, Visiting
from tests.nostr import Signer

ME = Signer(3)
SHORT = f"{ME.pubkey[:8]}…{ME.pubkey[-4:]}"
PHONE = {"width": 320, "height": 700}


async def give_extension(visit: Visit, signer: Signer | None) -> None:
    """`window.nostr` as an extension gives it; without a signer its owner declines."""

    async def sign(asked: dict[str, Any]) -> dict[str, Any]:
        assert signer is not None
        return signer.event(asked["kind"], asked["tags"], content=asked["content"], created_at=asked["created_at"])

    await visit.context.expose_function("signForTest", sign)
    declined = "Promise.reject(new Error('declined'))"
    answer = "window.signForTest(event)" if signer else declined
    await visit.context.add_init_script(f"window.nostr = {{ signEvent: (event) => {answer} }};")


async def test_logging_in_and_out_without_leaving_the_page(visiting: Visiting) -> None:
    async with visiting(viewport=PHONE) as visit:
        page = visit.page
        await give_extension(visit, ME)
        await visit.open("/docs")
        await page.get_by_role("button", name="Log in with Nostr").click()
        await expect(page.get_by_text(SHORT)).to_be_visible()
        assert page.url == f"{visit.url}/docs"
        await visit.fits()
        assert "boltworks_identity" not in await page.evaluate("document.cookie")
        await visit.open("/")
        await expect(page.get_by_text(SHORT)).to_be_visible()
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_role("button", name="Log in with Nostr")).to_be_visible()
        await visit.fits()


async def test_a_declined_login_is_told_and_can_be_tried_again(visiting: Visiting) -> None:
    async with visiting() as visit:
        page = visit.page
        await give_extension(visit, None)
        await visit.open("/")
        button = page.get_by_role("button", name="Log in with Nostr")
        await button.click()
        await expect(page.get_by_role("alert")).to_contain_text("Not logged in: declined")
        await expect(button).not_to_have_attribute("aria-disabled", "true")


async def test_without_an_extension_there_is_no_button(visiting: Visiting) -> None:
    async with visiting() as visit:
        await visit.open("/")
        await expect(visit.page.locator("#nostr-login")).to_be_attached()
        await expect(visit.page.locator("#nostr-login")).to_be_hidden()
