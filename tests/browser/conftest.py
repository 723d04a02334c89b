"""A real headless Chromium of the machine, and a witness of everything that a page must not do."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, Request, async_playwright, expect

from tests.gateways import GatewayProcess

expect.set_options(timeout=30_000)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ARTEFACTS = Path(__file__).resolve().parents[2] / "artefacts"


def chromium() -> str:
    """The machine's own browser; nothing is downloaded here."""
    named = os.environ.get("BOLTWORKS_CHROMIUM")
    found = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail("No Chromium: install one (Debian: apt-get install chromium), or name it in BOLTWORKS_CHROMIUM.")
    return found


@pytest_asyncio.fixture
async def chrome() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=SWITCHES)
        yield browser
        await browser.close()


@dataclass
class Visit:
    """A page, and what went wrong on it: console errors (policy violations are among them), foreign hosts."""

    page: Page
    context: BrowserContext
    url: str
    wrong: list[str] = field(default_factory=list)

    async def open(self, path: str) -> None:
        await self.page.goto(self.url + path)

    async def picture(self, name: str) -> None:
        ARTEFACTS.mkdir(exist_ok=True)
        await self.page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)

    async def fits(self) -> None:
        """Nothing is wider than the screen."""
        wider = await self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wider <= 0, f"{self.page.url} is {wider} px too wide"

    def forgive(self, words: str) -> None:
        """Chromium reports each refusal and each broken connection as an error; a test names those it caused."""
        self.wrong = [wrong for wrong in self.wrong if not re.search(words, wrong)]

    def watch(self) -> None:
        self.page.on("console", lambda message: self._heard(message.type, message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        self.page.on("request", self._asked)

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.wrong.append(f"console: {text}")

    def _asked(self, request: Request) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.url).netloc:
            self.wrong.append(f"foreign host: {request.url}")


class Visiting(Protocol):
    def __call__(self, **options: Any) -> AbstractAsyncContextManager[Visit]: ...


@pytest.fixture
def visiting(chrome: Browser, running_gateway: GatewayProcess) -> Visiting:
    """`async with visiting(java_script_enabled=False) as visit`: at its end, nothing may have gone wrong."""

    @asynccontextmanager
    async def visiting(**options: Any) -> AsyncIterator[Visit]:
        shape = {"viewport": {"width": 1280, "height": 860}, **options}
        context = await chrome.new_context(**shape)
        context.set_default_timeout(30_000)
        visit = Visit(await context.new_page(), context, running_gateway.url)
        visit.watch()
        try:
            yield visit
            assert visit.wrong == []
        finally:
            await context.close()

    return visiting
