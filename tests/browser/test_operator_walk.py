"""The operator's pages in real headless Chromium, on real nodes: without JavaScript, on a desk and on a phone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Visiting

PAGES = (
    "",
    "events",
    "refunds",
    "jobs",
    "sessions",
    "invoices",
    "identities",
    "grants",
    "pool",
    "book",
    "plots",
    "actions",
)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
async def test_the_operators_day(visiting: Visiting, tmp_path: Path, width: int, scheme: str) -> None:
    key = (tmp_path / "data/secrets/operator_key").read_text().strip()
    shape = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme, "java_script_enabled": False}
    async with visiting(**shape) as visit:
        page = visit.page
        await visit.open("/operator/pool")
        await page.get_by_label("Operator key").fill("not the key")
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("alert")).to_have_text("This is not the operator key.")
        visit.forgive("401")
        await page.get_by_label("Operator key").fill(key)
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        node = page.locator("section", has=page.get_by_role("heading", name="Lightning node"))
        await expect(node).not_to_contain_text("unknown")
        await expect(node).to_contain_text(re.compile(r"Can send now\s*[1-9][\d,.]* sats"))
        await expect(node).to_contain_text(re.compile(r"Can receive now\s*[1-9][\d,.]* sats"))

        await visit.open("/operator/pool")
        await page.get_by_label("Amount in sats").fill("12,345")
        await page.get_by_role("button", name="Go on").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Top up the free pool?")
        await page.get_by_role("button", name="Give 12,345 sats").click()
        await expect(page.get_by_role("status")).to_contain_text("Done: top-up of 12345 sats")

        await visit.open("/operator/reconciliation")
        await page.get_by_role("button", name="Run it now").click()
        await expect(page.get_by_role("heading", level=2)).to_have_text("Nothing differs")
        for name in PAGES:
            await visit.open(f"/operator/{name}".rstrip("/"))
            await visit.picture(f"operator-{name or 'overview'}-{width}-{scheme}")
        await expect(page.locator("tbody tr")).to_have_count(3)
        await page.get_by_role("button", name="Log out").click()
        await expect(page).to_have_url(f"{visit.url}/operator/login")


async def test_nothing_is_wider_than_a_phone(visiting: Visiting, tmp_path: Path) -> None:
    key = (tmp_path / "data/secrets/operator_key").read_text().strip()
    async with visiting(viewport={"width": 360, "height": 740}) as visit:
        await visit.open("/operator/login")
        await visit.fits()
        await visit.page.get_by_label("Operator key").fill(key)
        await visit.page.get_by_role("button", name="Log in").click()
        for name in (*PAGES, "webhooks", "deliveries", "logins", "reconciliation", f"identities/{'ab' * 32}"):
            await visit.open(f"/operator/{name}".rstrip("/"))
            await visit.fits()
