"""`/operator/login`: the operator key opens a session. The key stands in no URL, no log and no cookie."""

from __future__ import annotations

from aiohttp import web

from gateway.api.access import client_address
from gateway.context import GATEWAY
from gateway.operator.sessions import SESSION_S, end_session, find_session, log_in, log_out, open_sessions
from gateway.pages.operator.access import COOKIE, PATH, actor_of, show, to
from gateway.pages.operator.said import after, said
from gateway.pages.posted import read_form


async def form(request: web.Request) -> web.Response:
    token = request.cookies.get(COOKIE)
    if token and await find_session(request.app[GATEWAY], token) is not None:
        return to(PATH)
    return show(request, "login.html", {"error": ""})


async def login(request: web.Request) -> web.Response:
    """The form's field `key`. Raises Problem (429)."""
    gateway = request.app[GATEWAY]
    key = (await read_form(request)).get("key", "").strip()
    made = await log_in(gateway, key, client_address(request, gateway.settings.trusted_proxies))
    if made is None:
        return show(request, "login.html", {"error": "This is not the operator key."}, status=401)
    response = to(PATH)
    response.set_cookie(
        COOKIE,
        made.token,
        path=PATH,
        max_age=SESSION_S,
        httponly=True,
        samesite="Strict",
        secure=gateway.settings.base_url.startswith("https://"),
    )
    return response


async def logout(request: web.Request) -> web.Response:
    """The session ends here and in every tab."""
    await log_out(request.app[GATEWAY], actor_of(request))
    response = to("/operator/login")
    response.del_cookie(COOKIE, path=PATH)
    return response


async def logins(request: web.Request) -> web.Response:
    """Every session that is open, so that a forgotten one can be ended from here."""
    sessions = await open_sessions(request.app[GATEWAY].pool)
    return show(request, "logins.html", {"sessions": sessions, "said": await said(request)})


async def end(request: web.Request) -> web.Response:
    """Raises Problem (404)."""
    logged = await end_session(request.app[GATEWAY], actor_of(request), request.match_info["id"])
    return to(after("/operator/logins", logged))
