"""The operator in front of the pages: logs in with the key, sends a page's own forms."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html import unescape

from tests.web.conftest import Web
from tests.web.test_pages import Browser, Page, new_session

COOKIE = "boltworks_operator"


class Operator(Browser):
    """`post` sends the token of the session's forms, as the page holds it."""

    csrf = ""

    async def log_in(self, web: Web, key: str | None = None) -> Page:
        right = web.gateway.settings.operator_key.get_secret_value()
        page = await self.post("/operator/login", {"key": right if key is None else key})
        if page.status == 303:
            self.csrf = (await self.get("/operator")).hidden("csrf")
        return page

    async def send(self, path: str, form: Mapping[str, str] | None = None) -> Page:
        return await self.post(path, {"csrf": self.csrf, **(form or {})})

    async def confirm(self, path: str, form: Mapping[str, str] | None = None) -> tuple[Page, Page]:
        """The question, and what its button led to."""
        question = await self.send(path, form)
        assert question.status == 200, question.text
        return question, await self.post(path, hidden_fields(question))


def hidden_fields(page: Page) -> dict[str, str]:
    """Of the form in the middle of the page (the header's has only the token)."""
    main = page.body.decode().partition("<main")[2]
    return dict(re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', main))


@asynccontextmanager
async def operating(web: Web, *, logged_in: bool = True) -> AsyncIterator[Operator]:
    async with new_session() as session:
        operator = Operator(session, web.url)
        if logged_in:
            page = await operator.log_in(web)
            assert page.status == 303, page.text
        yield operator


def words(page: Page) -> str:
    """What stands on the page, without its tags."""
    return " ".join(unescape(re.sub("<[^>]+>", "", page.body.decode())).split())
