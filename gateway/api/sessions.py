"""The handlers of sessions: from the request to a use case and back. No money is decided here."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from aiohttp import web

from gateway import problems
from gateway.api.access import client_address, require_session
from gateway.api.body import read_model
from gateway.api.jobs import answered_once, json_response
from gateway.api.models import SessionRequest, SessionResultView, SessionView, SessionWorkRequest
from gateway.context import GATEWAY, Gateway
from gateway.identity import identify, record_event
from gateway.ids import bearer_token, token_hash
from gateway.jobs.create import Also, PlannedInvoice
from gateway.jobs.price import Priced, price
from gateway.problems import Problem
from gateway.refunds.destination import resolve_destination
from gateway.sessions import deposit
from gateway.sessions import open as opening
from gateway.sessions.decisions import lowest_cap
from gateway.sessions.open import NewSession, Payer
from gateway.sessions.request import Asked
from gateway.sessions.serve import serve_request
from gateway.sessions.view import read_session

MEMO = "Prepaid balance"


async def create_session(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    asked, raw = await read_model(request, SessionRequest)
    caller = await identify(gateway, request, raw)
    pubkey = caller.pubkey if caller else None
    also = Also(caller.event_id, lambda conn: record_event(conn, caller)) if caller and caller.event_id else None

    async def prepare() -> None:
        if asked.refund_to is not None:
            await resolve_destination(gateway.node, asked.refund_to, 0, datetime.now(UTC), gateway.destination_rules)

    async def answer(_: None, session_id: str, resumed: bool) -> SessionView:
        new = NewSession(
            id=session_id,
            token_hash=token_hash(session_token(gateway, session_id)),
            refund_key_hash=token_hash(refund_key(gateway, session_id)),
            deposit_sats=asked.deposit_sats,
            refund_to=asked.refund_to,
            client_address=client_address(request, gateway.settings.trusted_proxies),
            pubkey=pubkey,
            memo=gateway.memo(MEMO),
        )
        planned = await _stored(gateway, new, also, resumed=resumed)
        if planned is not None:
            await opening.open_at_node(gateway.pool, gateway.node, planned)
        return await view(gateway, session_id)

    scope = f"POST /api/sessions {pubkey}" if pubkey else "POST /api/sessions"
    session_id, status, body = await answered_once(gateway, request, scope, raw, prepare, answer, status=201)
    tokens = {"token": session_token(gateway, session_id), "refundKey": refund_key(gateway, session_id)}
    return json_response({**body, **tokens}, status)


async def _stored(gateway: Gateway, new: NewSession, also: Also | None, *, resumed: bool) -> PlannedInvoice | None:
    """What is to be opened at LND; None: nothing, the session is there as it should be. Raises Problem."""
    async with gateway.pool.acquire() as conn, conn.transaction():
        if resumed and await deposit.lock_session(conn, new.id) is not None:
            return await opening.resume(conn, new, gateway.invoice_limits)
        gateway.open_invoices.refuse_above(gateway.settings.open_invoices_total)
        planned = await opening.store(conn, new, gateway.invoice_limits, also)
    gateway.open_invoices.opened()
    return planned


async def get_session(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    session = await require_session(gateway, request)
    return json_response((await view(gateway, session["id"])).wire())


async def session_request(request: web.Request) -> web.Response:
    """The answer is what the work gave and what it cost. The cap of body and header is the lower one."""
    gateway = request.app[GATEWAY]
    session = await require_session(gateway, request)
    asked, raw = await read_model(request, SessionWorkRequest)
    cap_sats = lowest_cap(asked.max_sats, header_cap(request))

    async def prepare() -> Priced:
        priced = await price(gateway.catalogue, asked.work, asked.input)
        refuse_work(priced, cap_sats)
        return priced

    async def answer(priced: Priced, request_id: str, resumed: bool) -> SessionResultView:
        address = client_address(request, gateway.settings.trusted_proxies)
        runs = gateway.session_runs
        payer = Payer(session["id"], address, gateway.memo(MEMO), gateway.invoice_limits)
        order = Asked(request_id, session["id"], priced, address, runs.owner, gateway.settings.lease_s, payer)
        return await serve_request(gateway, order, resumed=resumed)

    scope = f"POST /api/sessions/{session['id']}/requests"
    _, status, body = await answered_once(gateway, request, scope, raw, prepare, answer, status=200)
    return json_response(body, status)


def header_cap(request: web.Request) -> int | None:
    """Raises Problem."""
    text = request.headers.get("X-Max-Sats")
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,16}", text):
        raise Problem(problems.INVALID_REQUEST, "X-Max-Sats is a whole number of sats.")
    return int(text)


def refuse_work(priced: Priced, cap_sats: int | None) -> None:
    """Before anything is held. Pure. Raises Problem."""
    if priced.entry.evaluation_fee_sats is not None:
        raise Problem(problems.WORK_NOT_IN_SESSIONS, "Its price is fixed by a look at the input; see POST /api/jobs.")
    if cap_sats is not None and priced.estimate_sats > cap_sats:
        detail = f"It may cost {priced.estimate_sats} sats, you allow {cap_sats}. Nothing was charged."
        extra = {"estimateSats": priced.estimate_sats, "maxSats": cap_sats}
        raise Problem(problems.MAX_SATS_EXCEEDED, detail, extra)


async def view(gateway: Gateway, session_id: str) -> SessionView:
    found = await read_session(gateway.pool, session_id, gateway.settings.refund_min_sats)
    if found is None:
        raise RuntimeError("a session vanished: rows are never deleted")
    return found


def session_token(gateway: Gateway, session_id: str) -> str:
    return bearer_token(gateway.token_secret, "session", session_id)


def refund_key(gateway: Gateway, session_id: str) -> str:
    return bearer_token(gateway.token_secret, "refund", session_id)
