"""The operator follows the log live in real headless Chromium: rows come by themselves, focus and place stay."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Page, expect

from tests.browser.conftest import Visit, Visiting


async def log_in(visit: Visit, data: Path) -> None:
    await visit.open("/operator/login")
    await visit.page.get_by_label("Operator key").fill((data / "secrets/operator_key").read_text().strip())
    await visit.page.get_by_role("button", name="Log in").click()
    await expect(visit.page.get_by_role("heading", level=1)).to_have_text("Overview")


async def top_up(page: Page, url: str, sats: int) -> None:
    """In another tab of the same operator."""
    await page.goto(f"{url}/operator/pool")
    await page.get_by_label("Amount in sats").fill(str(sats))
    await page.get_by_role("button", name="Go on").click()
    await page.get_by_role("button", name=f"Give {sats} sats").click()
    await expect(page.get_by_role("status")).to_contain_text(f"Done: top-up of {sats} sats")


async def test_what_happens_shows_by_itself(visiting: Visiting, tmp_path: Path) -> None:
    async with visiting() as visit:
        await log_in(visit, tmp_path / "data")
        page, other = visit.page, await visit.context.new_page()
        await top_up(other, visit.url, 111)
        await visit.open("/operator/actions")
        await page.get_by_role("link", name="Follow live").click()
        await expect(page.get_by_role("status")).to_have_text("What happens shows here by itself.")
        rows = page.locator("tbody tr")
        await expect(rows).to_have_count(2)
        await page.evaluate("window.sameDocument = true")
        link = rows.last.get_by_role("link").first
        await link.focus()

        await top_up(other, visit.url, 222)
        await expect(rows.first).to_contain_text("222 sats")
        await expect(rows).to_have_count(3)
        await expect(link).to_be_focused()

        await page.get_by_role("button", name="Pause").click()
        await expect(page.get_by_role("status")).to_have_text("Paused.")
        await top_up(other, visit.url, 333)
        await expect(rows).to_have_count(3)
        await page.get_by_role("button", name="Go on").click()
        await expect(rows.first).to_contain_text("333 sats")
        assert await page.evaluate("window.sameDocument"), "it was never read again"
        await visit.fits()

        for path in ("/operator/events", "/operator"):
            await visit.open(f"{path}?live=1")
            await expect(page.get_by_role("status")).to_have_text("What happens shows here by itself.")
            await visit.picture(f"operator-live{path.removeprefix('/operator').replace('/', '-')}")
        await expect(page.locator("#followed")).to_contain_text("666 sats", use_inner_text=True)
        await top_up(other, visit.url, 334)
        await expect(page.locator("#followed")).to_contain_text("1,000 sats", use_inner_text=True)

        await other.get_by_role("button", name="Log out").click()
        await expect(page).to_have_url(f"{visit.url}/operator/login")
