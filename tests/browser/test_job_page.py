"""The pages in real headless Chromium, the payments on real nodes: bought, paid, worked, downloaded, refunded."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from lightning.regtest.control import AsyncControl
from tests.browser.conftest import Visit, Visiting
from tests.gateways import GatewayProcess
from tests.services import WorkService

PDF = "markdown-pdf"
TEXT = "# Grüße\n\n" + "A paragraph of some length. " * 60
PHONE = {"width": 390, "height": 844}
WAIT_MS = 30_000


async def buy(visit: Visit, work: str, label: str, text: str) -> int:
    """From the start page to the job's page; the sats that the invoice asks for."""
    page = visit.page
    await visit.open(f"/?work={work}")
    await page.get_by_label(label).fill(text)
    await page.get_by_role("button", name="See the price").click()
    await expect(page.get_by_role("heading", name="At most")).to_be_visible()
    await visit.fits()
    await page.get_by_role("button", name=re.compile(r"Buy for [\d,]+ sats?")).click()
    await page.wait_for_url(f"{visit.url}/jobs/*")
    headline = await page.get_by_role("heading", level=1).inner_text()
    found = re.fullmatch(r"Pay ([\d,]+) sats? to start", headline)
    assert found is not None, headline
    return int(found[1].replace(",", ""))


async def buy_echo(visit: Visit, **work_input: object) -> int:
    return await buy(visit, "echo", "Input", json.dumps(work_input))


async def says(page: Page, words: str) -> None:
    await expect(page.get_by_role("heading", level=1)).to_contain_text(words, timeout=WAIT_MS)


async def charge(page: Page) -> int:
    cost = await page.locator(".receipt div", has_text="The work cost you").locator("dd").inner_text()
    return int(cost.split()[0].replace(",", ""))


async def download(page: Page, folder: Path) -> Path:
    async with page.expect_download() as started:
        await page.get_by_role("link", name=re.compile("^Download")).click()
    got = await started.value
    target = folder / got.suggested_filename
    await got.save_as(target)
    return target


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
async def test_the_paid_path_without_a_reload(
    visiting: Visiting, payer: AsyncControl, tmp_path: Path, width: int, scheme: str
) -> None:
    before = await payer.settled_balance_msat()
    async with visiting(viewport={"width": width, "height": 844}, color_scheme=scheme) as visit:
        page = visit.page
        price = await buy(visit, PDF, "Text in Markdown", TEXT)
        await page.evaluate("window.sameDocument = true")
        await expect(page.get_by_role("button", name="Copy the invoice")).to_be_visible()
        await visit.fits()
        await visit.picture(f"pay-{width}-{scheme}")

        await page.get_by_role("button", name="Pay with the demo wallet").click()
        await says(page, "Done, and")
        await expect(page.get_by_role("status")).to_contain_text("Done, and")
        await expect(page.locator(".steps li.done")).to_have_count(4)
        cost = await charge(page)
        assert 0 < cost < price
        await visit.fits()
        await visit.picture(f"done-{width}-{scheme}")
        file = await download(page, tmp_path)
        assert file.suffix == ".pdf"
        assert file.read_bytes().startswith(b"%PDF")

        await page.get_by_role("button", name="Refund to the demo wallet").click()
        await says(page, f"{price - cost} sats went back to you")
        await expect(page.locator(".steps li.done")).to_have_count(5)
        await visit.fits()
        await visit.picture(f"refunded-{width}-{scheme}")
        assert await page.evaluate("window.sameDocument") is True
        assert "boltworks_job" not in await page.evaluate("document.cookie")
    assert before - await payer.settled_balance_msat() == cost * 1000


async def test_the_paid_path_without_javascript(visiting: Visiting, payer: AsyncControl, tmp_path: Path) -> None:
    before = await payer.settled_balance_msat()
    async with visiting(java_script_enabled=False, viewport=PHONE) as visit:
        page = visit.page
        price = await buy(visit, PDF, "Text in Markdown", TEXT)
        await expect(page.get_by_role("button", name="Copy the invoice")).to_be_hidden()
        await expect(page.get_by_role("link", name="Reload now")).to_be_visible()
        await page.get_by_role("button", name="Pay with the demo wallet").click()
        await says(page, "Done, and")
        cost = await charge(page)
        assert (await download(page, tmp_path)).read_bytes().startswith(b"%PDF")

        field = page.get_by_label("An invoice of your wallet")
        await field.fill("lnbc-nonsense")
        await page.get_by_role("button", name=f"Send me {price - cost} sats").click()
        await expect(page.get_by_role("alert")).to_contain_text("can not be read")
        await expect(field).to_have_value("lnbc-nonsense")
        await visit.picture("refused-nojs")
        await field.fill(await payer.invoice(price - cost, memo="back to me"))
        visit.forgive("status of 422")
        await page.get_by_role("button", name=f"Send me {price - cost} sats").click()
        await says(page, f"{price - cost} sats went back to you")
    assert before - await payer.settled_balance_msat() == cost * 1000


async def test_typed_text_and_focus_survive_what_happens_meanwhile(
    visiting: Visiting, service: WorkService, payer: AsyncControl
) -> None:
    async with visiting() as visit:
        page = visit.page
        await buy_echo(visit, cost=30, hold=True)
        await payer.pay(await page.get_by_label("Or paste this invoice").input_value())
        await says(page, "Working on it")
        await page.get_by_text("Say now where unused sats go").click()
        field = page.locator("#destination")
        await field.fill("lnbc half typ")
        await field.evaluate("field => field.setSelectionRange(5, 9)")
        service.release.set()
        await says(page, "70 sats are yours to take back")
        await expect(field).to_have_value("lnbc half typ")
        await expect(field).to_be_focused()
        assert await field.evaluate("field => [field.selectionStart, field.selectionEnd]") == [5, 9]


async def test_a_refusal_stands_beside_its_form_without_a_reload(visiting: Visiting, payer: AsyncControl) -> None:
    async with visiting() as visit:
        page = visit.page
        await buy_echo(visit, cost=30)
        await page.get_by_role("button", name="Pay with the demo wallet").click()
        await says(page, "70 sats are yours")
        await page.evaluate("window.sameDocument = true")
        await page.get_by_label("An invoice of your wallet").fill(await payer.invoice(71))
        await page.get_by_role("button", name="Send me 70 sats").click()
        await expect(page.get_by_role("alert")).to_contain_text("Make an invoice over 70 sats")
        assert await page.evaluate("window.sameDocument") is True
        await visit.picture("refused")
        visit.forgive("status of 422")


async def test_copying_cancelling_and_keys(visiting: Visiting) -> None:
    async with visiting(permissions=["clipboard-read", "clipboard-write"]) as visit:
        page = visit.page
        await buy_echo(visit)
        invoice = await page.get_by_label("Or paste this invoice").input_value()
        link = page.get_by_role("link", name="Open in my wallet")
        assert await link.get_attribute("href") == f"lightning:{invoice}"
        button = page.get_by_role("button", name="Copy the invoice")
        await button.focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_have_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == invoice
        await page.get_by_role("button", name="Cancel this job").click()
        await says(page, "This job ended unpaid")
        await expect(page.locator("#content")).to_be_focused()


async def test_a_restarted_gateway_is_found_again(
    visiting: Visiting, running_gateway: GatewayProcess, payer: AsyncControl
) -> None:
    async with visiting() as visit:
        page = visit.page
        await buy_echo(visit, cost=30)
        invoice = await page.get_by_label("Or paste this invoice").input_value()
        await running_gateway.kill()
        await expect(page.locator("#offline")).to_be_visible(timeout=WAIT_MS)
        await payer.pay(invoice)
        await running_gateway.start()
        await says(page, "70 sats are yours to take back")
        await expect(page.locator("#offline")).to_be_hidden(timeout=WAIT_MS)
        visit.forgive("ERR_(CONNECTION_|INCOMPLETE_CHUNKED|EMPTY_RESPONSE)")


@pytest.mark.parametrize("width", [320, 390, 768])
async def test_no_page_is_wider_than_its_screen(visiting: Visiting, width: int) -> None:
    async with visiting(viewport={"width": width, "height": 700}) as visit:
        for path in ("/", f"/?work={PDF}", "/docs"):
            await visit.open(path)
            await visit.fits()
        await buy_echo(visit)
        await visit.fits()
        job = visit.page.url
        await visit.open("/nothing")
        await visit.fits()
        await visit.context.clear_cookies()
        await visit.page.goto(job)
        await expect(visit.page.get_by_role("heading", level=1)).to_have_text(
            "This browser does not hold this job's key"
        )
        await visit.fits()
        visit.forgive("status of 40[14]")


async def test_a_wallet_in_the_browser_is_asked(visiting: Visiting) -> None:
    """WebLN: the page gives it the invoice, and what happened is the server's word."""
    async with visiting() as visit:
        page = visit.page
        await page.add_init_script(
            "window.webln = { enable: async () => {}, sendPayment: async (invoice) => { window.asked = invoice; } }"
        )
        await buy_echo(visit)
        await page.get_by_role("button", name="Pay with this browser's wallet").click()
        await page.wait_for_function("window.asked !== undefined")
        assert await page.evaluate("window.asked") == await page.locator("#invoice").input_value()
        await says(page, "Pay 100 sats")
