"""Who is let onto the operator's pages: a session's cookie, and in every form the session's own token."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway import problems
from gateway.api.access import client_address
from gateway.context import GATEWAY
from gateway.operator.log import Actor
from gateway.operator.sessions import OperatorSession, find_session
from gateway.pages.errors import Handler, problem_of, refusing_by
from gateway.pages.origin import refuse_foreign_form
from gateway.pages.posted import read_form
from gateway.pages.rendering import render
from gateway.pages.words import words_for
from gateway.problems import Problem, ProblemType

__all__ = [
    "COOKIE",
    "FORM",
    "SESSION",
    "actor_of",
    "open_to_all",
    "operator_only",
    "problem_of",
    "show",
    "show_or_fragment",
    "to",
]

COOKIE = "boltworks_operator"
PATH = "/operator"
SESSION: web.RequestKey[OperatorSession] = web.RequestKey("operator_session", OperatorSession)
FORM: web.RequestKey[dict[str, str]] = web.RequestKey("operator_form", dict)
"""The posted form, once its token was right."""

FORGED_FORM = ProblemType("forged_form", 403, "This form is not one of your session")


def operator_only(handler: Handler) -> Handler:
    """Without a session a page leads to the login, and a form is refused. A form needs the session's token, too."""

    async def let_in(request: web.Request) -> web.StreamResponse:
        refuse_foreign_form(request)
        token = request.cookies.get(COOKIE)
        session = await find_session(request.app[GATEWAY], token) if token else None
        if session is None:
            if request.method in ("GET", "HEAD"):
                return to("/operator/login")
            raise Problem(problems.CREDENTIAL_REQUIRED, "You are not logged in, or no longer. Nothing was done.")
        request[SESSION] = session
        if request.method not in ("GET", "HEAD"):
            request[FORM] = await _own_form(request, session)
        return await handler(request)

    return refusing_by(problem_page, handler, let_in)


def open_to_all(handler: Handler) -> Handler:
    """The login's own pages."""

    async def own_form_only(request: web.Request) -> web.StreamResponse:
        refuse_foreign_form(request)
        return await handler(request)

    return refusing_by(problem_page, handler, own_form_only)


async def _own_form(request: web.Request, session: OperatorSession) -> dict[str, str]:
    """Raises Problem (403): no token, or not this session's."""
    form = await read_form(request)
    if not hmac.compare_digest(form.pop("csrf", "").encode(), session.csrf.encode()):
        raise Problem(FORGED_FORM, "Open the page again and send its form from there. Nothing was done.")
    return form


def actor_of(request: web.Request) -> Actor:
    """Of a page that is `operator_only`."""
    address = client_address(request, request.app[GATEWAY].settings.trusted_proxies)
    return Actor("session", request[SESSION].id, address)


def show(
    request: web.Request, template: str, context: Mapping[str, Any], *, status: int = 200, headers: Any = None
) -> web.Response:
    """A page of the operator's, with its navigation when somebody is logged in."""
    shown = {"session": request.get(SESSION), "here": request.path, **context}
    return render(request, f"operator/{template}", shown, status=status, headers=headers)


def show_or_fragment(request: web.Request, template: str, fragment: str, context: Mapping[str, Any]) -> web.Response:
    """A page that can be followed. Its script asks for the part that changes, by the header `X-Fragment`."""
    shown = {"live": "live" in request.query, **context}
    if "X-Fragment" in request.headers:
        return show(request, fragment, shown, headers={"X-Fragment": "1"})
    return show(request, template, shown)


def to(place: str) -> web.Response:
    """To another page of ours."""
    return web.Response(status=303, headers={"Location": place, "Cache-Control": "no-store"})


def problem_page(request: web.Request, problem: Problem) -> web.Response:
    words = words_for(problem)
    # The public pages' words are about a payer's money.
    context = {"title": problem.type.title, "what": problem.detail or words.what, "code": problem.type.code}
    return show(request, "problem.html", context, status=problem.type.status, headers=problem.headers)
