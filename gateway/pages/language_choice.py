"""Which language a request is answered in: what the switch says, else its cookie, else what the browser accepts."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from aiohttp import web

from gateway.context import GATEWAY
from gateway.pages.cookies import AGE_S
from gateway.pages.language import Language, Languages, preferred

COOKIE = "boltworks_lang"
SWITCH = "lang"
LANGUAGES: web.AppKey[Languages] = web.AppKey("languages", Mapping[str, Language])
"""By their codes, English first."""


def language_of(request: web.Request) -> Language:
    """What is neither known nor asked for counts as not said."""
    known = request.app[LANGUAGES]
    for said in (request.query.get(SWITCH), request.cookies.get(COOKIE)):
        if said is not None and said in known:
            return known[said]
    return preferred(request.headers.get("Accept-Language", ""), known)


def switched(request: web.Request) -> web.Response | None:
    """For a link of the switch: back to the same page, the language kept in a cookie. None: it is no such link."""
    code = request.query.get(SWITCH)
    if request.method not in ("GET", "HEAD") or code is None or code not in request.app[LANGUAGES]:
        return None
    response = web.Response(status=303, headers={"Location": same_page(request), "Cache-Control": "no-store"})
    response.set_cookie(
        COOKIE,
        code,
        path="/",
        max_age=AGE_S,
        httponly=True,
        samesite="Lax",
        secure=request.app[GATEWAY].settings.base_url.startswith("https://"),
    )
    return response


def same_page(request: web.Request, **query: str) -> str:
    """This address and the work that it names, always one of ours: two slashes at its beginning name another host."""
    if work := request.query.get("work"):
        query = {"work": work, **query}
    path = "/" + request.rel_url.raw_path.lstrip("/\\")
    return f"{path}?{urlencode(query)}" if query else path


def switch_links(request: web.Request) -> list[tuple[Language, str]]:
    """Each language and the link that switches to it."""
    return [(one, same_page(request, **{SWITCH: one.code})) for one in request.app[LANGUAGES].values()]
