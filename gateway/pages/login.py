"""Who looks at the pages: logged in with a Nostr key by the browser's extension (NIP-07), kept in a cookie."""

from __future__ import annotations

import logging

from aiohttp import web

from gateway.api.body import parse_json
from gateway.context import GATEWAY, Gateway
from gateway.identity.login import log_in, log_out, pubkey_of_token
from gateway.pages.posted import read_form
from gateway.pages.rendering import VIEWER
from ledger.database import DATABASE_AWAY

log = logging.getLogger(__name__)

COOKIE = "boltworks_identity"
COOKIE_AGE_S = 30 * 86_400


async def page_identity(gateway: Gateway, request: web.Request) -> str | None:
    """The pubkey that this browser is logged in with; None without. Writes nothing."""
    token = request.cookies.get(COOKIE)
    return None if token is None else await pubkey_of_token(gateway.pool, token)


async def know_viewer(request: web.Request) -> None:
    """For the pages' header. Without a database it shows nobody, rather than no page."""
    try:
        request[VIEWER] = await page_identity(request.app[GATEWAY], request)
    except DATABASE_AWAY as error:
        log.warning("the database did not answer: %s: %s", type(error).__name__, error)


async def login(request: web.Request) -> web.Response:
    """The signed event as the form's field `event`; the page's script loads the page again. Raises Problem."""
    gateway = request.app[GATEWAY]
    signed = parse_json((await read_form(request)).get("event", "").encode())
    made = await log_in(gateway, signed)
    response = web.Response(status=204, headers={"Cache-Control": "no-store"})
    response.set_cookie(
        COOKIE,
        made.token,
        path="/",
        max_age=COOKIE_AGE_S,
        httponly=True,
        samesite="Strict",
        secure=gateway.settings.base_url.startswith("https://"),
    )
    return response


async def logout(request: web.Request) -> web.Response:
    """The token ends here and everywhere."""
    token = request.cookies.get(COOKIE)
    if token is not None:
        await log_out(request.app[GATEWAY].pool, token)
    response = web.Response(status=303, headers={"Location": "/", "Cache-Control": "no-store"})
    response.del_cookie(COOKIE, path="/")
    return response
