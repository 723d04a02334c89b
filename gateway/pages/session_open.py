"""`/sessions`: open a prepaid balance, once for each form."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

from gateway import problems
from gateway.api.models import SessionRequest
from gateway.api.session_calls import check_refund_to, open_session
from gateway.context import GATEWAY, Gateway
from gateway.idempotency import Claim
from gateway.pages.details import N_
from gateway.pages.errors import problem_of
from gateway.pages.language import gettext as _
from gateway.pages.login import page_identity
from gateway.pages.once import new_key, once
from gateway.pages.posted import read_form, sats_of
from gateway.pages.rendering import number, render
from gateway.pages.session import give_keys
from gateway.pages.session_words import one_line_of
from gateway.problems import Problem
from ledger.database import DATABASE_AWAY
from lightning.types import NodeUnavailable

SCOPE = "POST /sessions page"
_FORM_SENT = N_("This form was sent before with something else in it. Look at it again, and send it.")
SUGGESTED_SATS = (1_000, 5_000, 20_000)


async def show(request: web.Request) -> web.Response:
    """With one of the amounts that it suggests, if that was followed."""
    amount = request.query.get("deposit", "")
    suggested = [number(one) for one in SUGGESTED_SATS]
    return _page(request, {"deposit": amount} if amount in suggested else {}, new_key())


async def open_one(request: web.Request) -> web.Response:
    """Opens it, gives its keys to this browser, goes to its page."""
    gateway = request.app[GATEWAY]
    typed = await read_form(request)
    key = typed.get("key", "")
    try:
        session_id = await _open_once(request, gateway, _asked(typed), key)
    except (Problem, NodeUnavailable, *DATABASE_AWAY) as error:
        problem = problem_of(error)
        spent = problem.type in (problems.IDEMPOTENCY_KEY_REUSED, problems.IDEMPOTENCY_KEY_INVALID)
        notice = _(_FORM_SENT) if spent else one_line_of(problem)
        return _page(request, typed, new_key() if spent else key, notice, problem.type.status)
    response = web.Response(status=303, headers={"Location": f"/sessions/{session_id}", "Cache-Control": "no-store"})
    give_keys(response, gateway, session_id)
    return response


def _asked(typed: Mapping[str, str]) -> SessionRequest:
    """Raises Problem."""
    refund_to = typed.get("refund_to", "").strip()[:4096] or None
    return SessionRequest(deposit_sats=sats_of(typed.get("deposit", "")), refund_to=refund_to)


async def _open_once(request: web.Request, gateway: Gateway, asked: SessionRequest, key: str) -> str:
    """The session's id, the same one for the same form. Raises Problem, NodeUnavailable."""
    await check_refund_to(gateway, asked.refund_to)

    async def make(claimed: Claim) -> None:
        pubkey = await page_identity(gateway, request)
        await open_session(request, gateway, asked, claimed.resource_id, resumed=claimed.resumed, pubkey=pubkey)

    body = json.dumps([asked.deposit_sats, asked.refund_to]).encode()
    return await once(gateway, SCOPE, key, body, make)


def _page(
    request: web.Request, typed: Mapping[str, str], key: str, notice: str = "", status: int = 200
) -> web.Response:
    context = {"typed": typed, "key": key, "notice": notice, "suggested": SUGGESTED_SATS}
    return render(request, "session_open.html", context, status=status)
