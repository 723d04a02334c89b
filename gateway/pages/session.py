"""`/sessions/{id}`: a prepaid balance as its owner sees it. Two cookies that opening gave open it."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from gateway import problems
from gateway.api.access import JOB_ID
from gateway.api.events import Moment, stream
from gateway.api.models import SessionView
from gateway.api.session_calls import add_topup, checked_destination, end_session, refund_key, session_token, view
from gateway.api.withdraw import offer
from gateway.context import GATEWAY, Gateway
from gateway.ids import token_hash
from gateway.pages import session_try
from gateway.pages.cookies import give_key
from gateway.pages.demo_wallet import DEMO_WALLET
from gateway.pages.details import N_, in_words
from gateway.pages.download import download
from gateway.pages.elapsed import Running, too_long
from gateway.pages.errors import problem_of
from gateway.pages.job import FRAGMENT, NO_ERROR, FormError
from gateway.pages.posted import read_form, sats_of
from gateway.pages.qr import invoice_qr
from gateway.pages.rendering import render
from gateway.pages.result import shown
from gateway.pages.session_try import Tried, trying
from gateway.pages.session_words import one_line_of, story_of
from gateway.problems import Problem, ProblemType
from gateway.refunds.claim import below_minimum
from gateway.sessions.statement import read_statement
from ledger import sql
from ledger.database import DATABASE_AWAY, from_jsonb
from lightning.types import NodeUnavailable

_q = sql.load("gateway.sessions")

TOKEN_COOKIE, KEY_COOKIE = "boltworks_session", "boltworks_refund_key"
"""The key that spends, and the one that says where the rest goes."""
SESSION_LOCKED = ProblemType("session_locked", 401, "This browser does not hold this balance's key")
LOCKED = N_("It opens only in the browser that opened it. Programs that have its token can still use it.")
LINES = 10
"""Of the statement, the newest."""


def give_keys(response: web.StreamResponse, gateway: Gateway, session_id: str) -> None:
    """To this browser, for this session's address."""
    for name, secret in ((TOKEN_COOKIE, session_token), (KEY_COOKIE, refund_key)):
        give_key(response, gateway, name, f"/sessions/{session_id}", secret(gateway, session_id))


async def show(request: web.Request) -> web.Response:
    return await answer(request, await opened(request))


async def go_to_session(request: web.Request) -> web.Response:
    """Somebody reloaded the address of a form."""
    if not JOB_ID.fullmatch(request.match_info["id"]):
        raise Problem(problems.SESSION_NOT_FOUND)
    return web.Response(status=303, headers={"Location": f"/sessions/{request.match_info['id']}"})


async def fragment(request: web.Request) -> web.Response:
    return await answer(request, await opened(request), only_main=True)


async def events(request: web.Request) -> web.StreamResponse:
    gateway, session_id = request.app[GATEWAY], await opened(request)

    async def now() -> Moment:
        seen = await view(gateway, session_id)
        return Moment(json.dumps(seen.wire(), ensure_ascii=False), seen.updated_at)

    return await stream(request, gateway, session_id, "session", now)


async def result(request: web.Request) -> web.Response:
    """What the newest request gave, as a download: a browser never renders it as ours."""
    last = await request.app[GATEWAY].pool.fetchrow(_q.last_request, await opened(request))
    if last is None or last["result"] is None:
        raise Problem(problems.NOT_AVAILABLE, "There is no result to download.")
    return download(shown(from_jsonb(last["result"])))


async def try_request(request: web.Request) -> web.Response:
    session_id = await opened(request)
    tried = await session_try.run(request, session_id)
    if tried is not None:
        return await answer(request, session_id, tried=tried)
    location = f"/sessions/{session_id}#last"
    return web.Response(status=303, headers={"Location": location, "Cache-Control": "no-store"})


async def top_up(request: web.Request) -> web.Response:
    gateway, session_id = request.app[GATEWAY], await opened(request)
    typed = (await read_form(request)).get("amount", "")

    async def act() -> None:
        amount_sats = sats_of(typed)
        now = await view(gateway, session_id)
        if now.invoice is None or now.invoice.amount_sats != amount_sats:
            # One whose answer by LND was lost is asked for again, as by the same Idempotency-Key.
            await add_topup(request, gateway, session_id, amount_sats, resumed=True)

    return await _act(request, session_id, "topup", typed, act)


async def close(request: web.Request) -> web.Response:
    """Given up before its deposit, closed, or told where the rest goes: whatever there is to end."""
    gateway, session_id = request.app[GATEWAY], await opened(request, with_key=True)
    typed = await read_form(request)
    destination = typed.get("destination", "").strip()[:4096] or None

    async def act() -> None:
        if "unpaid" in typed and (await view(gateway, session_id)).state == "active":
            raise Problem(problems.SESSION_NOT_ACTIVE, "Your deposit arrived just now, so nothing was cancelled.")
        found = None if destination is None else await checked_destination(gateway, session_id, destination)
        await end_session(gateway, session_id, destination, found)

    return await _act(request, session_id, "close", destination or "", act)


async def demo_pay(request: web.Request) -> web.Response:
    gateway, session_id = request.app[GATEWAY], await opened(request)

    async def act() -> None:
        now = await view(gateway, session_id)
        if now.invoice is not None:
            await request.app[DEMO_WALLET].pay(now.invoice.payment_request)

    return await _act(request, session_id, "demo-pay", "", act)


async def demo_refund(request: web.Request) -> web.Response:
    gateway, session_id = request.app[GATEWAY], await opened(request, with_key=True)

    async def act() -> None:
        now = await view(gateway, session_id)
        rest_sats = now.refund_amount_sats if now.refund_state in ("pending", "paying") else now.balance_sats
        invoice = await request.app[DEMO_WALLET].invoice(rest_sats)
        await end_session(gateway, session_id, invoice, await checked_destination(gateway, session_id, invoice))

    return await _act(request, session_id, "demo-refund", "", act)


async def opened(request: web.Request, *, with_key: bool = False) -> str:
    """The session's id. `with_key`: for what only the refund key may do. Raises Problem (401, 404)."""
    session_id = request.match_info["id"]
    row = None
    if JOB_ID.fullmatch(session_id):
        row = await request.app[GATEWAY].pool.fetchrow(_q.keys, session_id)
    if row is None:
        raise Problem(problems.SESSION_NOT_FOUND)
    _require(request.cookies.get(TOKEN_COOKIE), bytes(row["token_hash"]))
    if with_key:
        _require(request.cookies.get(KEY_COOKIE), bytes(row["refund_key_hash"]))
    return session_id


def _require(key: str | None, wanted_hash: bytes) -> None:
    """Constant time. Raises Problem (401)."""
    if key is None or not hmac.compare_digest(token_hash(key), wanted_hash):
        raise Problem(SESSION_LOCKED, LOCKED)


async def _act(
    request: web.Request, session_id: str, form: str, typed: str, act: Callable[[], Awaitable[None]]
) -> web.Response:
    """Do it, and show the session again; a refusal stands beside its form."""
    only_main = FRAGMENT in request.headers
    try:
        await act()
    except (Problem, NodeUnavailable, *DATABASE_AWAY) as error:
        problem = problem_of(error)
        refused = FormError(form, one_line_of(problem), typed, problem.type.status)
        return await answer(request, session_id, error=refused, only_main=only_main)
    if only_main:
        return await answer(request, session_id, only_main=True)
    return web.Response(status=303, headers={"Location": f"/sessions/{session_id}", "Cache-Control": "no-store"})


async def answer(
    request: web.Request,
    session_id: str,
    *,
    error: FormError = NO_ERROR,
    tried: Tried | None = None,
    only_main: bool = False,
) -> web.Response:
    """The session's page, or its main part for the script."""
    gateway = request.app[GATEWAY]
    seen = await view(gateway, session_id)
    context = await _main(request, gateway, seen) | await _withdrawal(request, gateway, seen) | {"error": error}
    if only_main:
        return render(request, "session_main.html", context, status=error.status, headers={FRAGMENT: "1"})
    context |= {"try": tried or trying(gateway.catalogue, request.query.get("work"))}
    context |= {"base_url": gateway.settings.base_url, "token": request.cookies.get(TOKEN_COOKIE, "")}
    return render(request, "session.html", context, status=tried.status if tried else error.status)


async def _withdrawal(request: web.Request, gateway: Gateway, seen: SessionView) -> dict[str, Any]:
    """The code to scan, while something waits to be fetched, for who has the refund key: whoever has it can fetch."""
    nothing = {"withdrawal": None, "withdrawal_qr": None}
    if seen.refund_state != "pending" and not seen.refund_problem:
        return nothing
    try:
        await opened(request, with_key=True)
        found = await offer(gateway, seen.id)
    except Problem:
        return nothing
    return {"withdrawal": found, "withdrawal_qr": invoice_qr(found.lnurl)}


async def _main(request: web.Request, gateway: Gateway, seen: SessionView) -> dict[str, Any]:
    last = await gateway.pool.fetchrow(_q.last_request, seen.id)
    newest = await gateway.pool.fetchval(_q.last_number, seen.id)
    said = await read_statement(gateway.pool, seen.id, max(0, newest - LINES), LINES)
    payable = seen.invoice is not None and seen.invoice.state == "open" and seen.state in ("awaiting_deposit", "active")
    limit = too_long(gateway.settings.work_timeout_s)
    return {
        "session": seen,
        "story": story_of(seen, ever_paid=said.paid_in_sats > 0),
        "qr": invoice_qr(seen.invoice.payment_request) if payable and seen.invoice else None,
        "statement": said,
        "lines": said.items[::-1],
        "last": last,
        "running": Running(last["created_at"], limit) if last is not None and last["state"] == "running" else None,
        "shown": shown(from_jsonb(last["result"])) if last is not None and last["result"] is not None else None,
        "too_small": in_words(below_minimum(seen.refund_amount_sats, gateway.settings.refund_min_sats) or ""),
        "refund_problem": in_words(seen.refund_problem or ""),
        "demo_wallet": await request.app[DEMO_WALLET].usable(),
    }
