"""axe-core in the page: what it finds wrong for a keyboard, a screen reader or weak eyes.

The driver evaluates it from outside the page, so the policy of the page stays as its readers get it.
"""

from __future__ import annotations

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

GRAVE = ("serious", "critical")
SIZES = ({"width": 1280, "height": 860}, {"width": 390, "height": 844})
SCHEMES = ("light", "dark")


async def grave_findings(page: Page) -> list[str]:
    """Of the page as it stands, on a desk and on a phone, light and dark; empty is right."""
    found = []
    for size in SIZES:
        await page.set_viewport_size(size)
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            found += [f"{page.url} {size['width']} {scheme}: {words}" for words in await _findings(page)]
    return found


async def _findings(page: Page) -> list[str]:
    results = await Axe().run(page)
    return [
        f"{violation['id']}: {violation['help']}: {node['target']} {node['failureSummary']}"
        for violation in results.response["violations"]
        if violation["impact"] in GRAVE
        for node in violation["nodes"]
    ]
