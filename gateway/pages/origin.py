"""Forms are taken from our own pages only, so that no other site can press a button for a visitor."""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web

from gateway.context import GATEWAY
from gateway.problems import Problem, ProblemType

FOREIGN_FORM = ProblemType("foreign_form", 403, "This form was not sent from our own page")


def refuse_foreign_form(request: web.Request) -> None:
    """What the browser says decides; a client that says nothing is no browser and holds no cookie. Raises Problem."""
    if request.method in ("GET", "HEAD"):
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site != "same-origin":
        raise Problem(FOREIGN_FORM)
    origin = request.headers.get("Origin")
    if (
        origin is not None
        and site is None
        and not is_our_origin(origin, request.app[GATEWAY].settings.public_url, request.host)
    ):
        raise Problem(FOREIGN_FORM)


def is_our_origin(origin: str, public_url: str | None, host: str) -> bool:
    """The public address if one is set, else the address that the client asked for. Pure."""
    if public_url is None:
        try:
            return urlsplit(origin).netloc == host
        except ValueError:
            return False
    ours = urlsplit(public_url)
    return origin == f"{ours.scheme}://{ours.netloc}"
