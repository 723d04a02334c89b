"""The handlers of sessions: from the request to a use case and back. No money is decided here."""

from __future__ import annotations

import re

from aiohttp import web

from gateway import problems
from gateway.api.access import require_session
from gateway.api.body import read_model, read_raw
from gateway.api.caps import refuse_above_cap
from gateway.api.jobs import answered_once, json_response, using_up
from gateway.api.l402 import require_owner
from gateway.api.models import (
    CloseRequest,
    SessionRequest,
    SessionResultView,
    SessionTopupRequest,
    SessionTopupView,
    SessionView,
    SessionWorkRequest,
)
from gateway.api.session_calls import (
    add_topup,
    check_refund_to,
    checked_destination,
    end_session,
    open_session,
    order,
    refund_key,
    require_refund_key,
    session_token,
    view,
)
from gateway.context import GATEWAY
from gateway.identity import identify
from gateway.jobs.price import Priced, price
from gateway.problems import Problem
from gateway.refunds.destination import Destination
from gateway.sessions.request import refuse_inactive
from gateway.sessions.serve import serve_request
from gateway.sessions.statement import read_statement

PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000


async def create_session(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    asked, raw = await read_model(request, SessionRequest)
    caller = await identify(gateway, request, raw)
    pubkey = caller.pubkey if caller else None
    also = using_up(caller)

    async def prepare() -> None:
        await check_refund_to(gateway, asked.refund_to)

    async def answer(_: None, session_id: str, resumed: bool) -> SessionView:
        return await open_session(request, gateway, asked, session_id, resumed=resumed, pubkey=pubkey, also=also)

    scope = f"POST /api/sessions {pubkey}" if pubkey else "POST /api/sessions"
    answering = answered_once(gateway, request, scope, raw, prepare, answer, status=201, caller=caller)
    session_id, status, body = await answering
    tokens = {"token": session_token(gateway, session_id), "refundKey": refund_key(gateway, session_id)}
    return json_response({**body, **tokens}, status)


async def get_session(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    session, _ = await require_owner(gateway, request)
    return json_response((await view(gateway, session["id"])).wire())


async def session_request(request: web.Request) -> web.Response:
    """The answer is what the work gave and what it cost. The cap of body and header is the lower one."""
    gateway = request.app[GATEWAY]
    session = await require_session(gateway, request)
    asked, raw = await read_model(request, SessionWorkRequest)

    async def prepare() -> Priced:
        priced = await price(gateway.catalogue, asked.work, asked.input)
        refuse_work(request, priced, asked.max_sats)
        return priced

    async def answer(priced: Priced, request_id: str, resumed: bool) -> SessionResultView:
        return await serve_request(gateway, order(request, session["id"], request_id, priced), resumed=resumed)

    scope = f"POST /api/sessions/{session['id']}/requests"
    _, status, body = await answered_once(gateway, request, scope, raw, prepare, answer, status=200)
    return json_response(body, status)


async def topup_session(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    session = await require_session(gateway, request)
    asked, raw = await read_model(request, SessionTopupRequest)

    async def prepare() -> None:
        refuse_inactive(session["state"])

    async def answer(_: None, __: str, resumed: bool) -> SessionTopupView:
        return await add_topup(request, gateway, session["id"], asked.amount_sats, resumed=resumed)

    scope = f"POST /api/sessions/{session['id']}/topups"
    _, status, body = await answered_once(gateway, request, scope, raw, prepare, answer, status=201)
    return json_response(body, status)


async def close_session(request: web.Request) -> web.Response:
    """The token alone closes; only the refund key names a destination, because tokens are pasted into API clients.

    A whole L402 credential holds the payment's preimage, and is both.
    """
    gateway = request.app[GATEWAY]
    session, is_whole = await require_owner(gateway, request)
    asked, raw = await read_model(request, CloseRequest) if await read_raw(request) else (CloseRequest(), b"")
    if not is_whole:
        refuse_key(asked, bytes(session["refund_key_hash"]))

    async def prepare() -> Destination | None:
        if asked.destination is None:
            return None
        return await checked_destination(gateway, session["id"], asked.destination)

    async def answer(destination: Destination | None, _: str, resumed: bool) -> SessionView:
        await end_session(gateway, session["id"], asked.destination, destination)
        return await view(gateway, session["id"])

    scope = f"POST /api/sessions/{session['id']}/close"
    _, status, body = await answered_once(gateway, request, scope, raw, prepare, answer, status=200)
    return json_response(body, status)


def refuse_key(asked: CloseRequest, refund_key_hash: bytes) -> None:
    """Pure. Raises Problem."""
    if asked.destination is None and asked.refund_key is None:
        return
    require_refund_key(asked.refund_key, refund_key_hash)


async def session_statement(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    session, _ = await require_owner(gateway, request)
    after, size = request.query.get("after", "0"), request.query.get("limit", str(PAGE_SIZE))
    if not re.fullmatch("[0-9]{1,9}", after) or not re.fullmatch("[0-9]{1,4}", size):
        raise Problem(problems.INVALID_REQUEST, "after is the next of a page, limit a number.")
    if not 1 <= int(size) <= MAX_PAGE_SIZE:
        raise Problem(problems.INVALID_REQUEST, f"limit is a number from 1 to {MAX_PAGE_SIZE}.")
    return json_response((await read_statement(gateway.pool, session["id"], int(after), int(size))).wire())


def refuse_work(request: web.Request, priced: Priced, max_sats: int | None) -> None:
    """Before anything is held. Raises Problem."""
    if priced.entry.evaluation_fee_sats is not None:
        raise Problem(problems.WORK_NOT_IN_SESSIONS, "Its price is fixed by a look at the input; see POST /api/jobs.")
    refuse_above_cap(request, priced, max_sats)
