"""The handlers of sessions: from the request to a use case and back. No money is decided here."""

from __future__ import annotations

import hmac
import re
from datetime import UTC, datetime

from aiohttp import web

from gateway import problems
from gateway.api.access import client_address, require_session
from gateway.api.body import read_model, read_raw
from gateway.api.caps import refuse_above_cap
from gateway.api.jobs import answered_once, json_response, refuse_foreign_use, using_up
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
from gateway.context import GATEWAY, Gateway
from gateway.identity import identify
from gateway.ids import bearer_token, token_hash
from gateway.jobs.create import Also, PlannedInvoice, open_unattached
from gateway.jobs.price import Priced, price
from gateway.jobs.view import open_invoice_view
from gateway.problems import Problem
from gateway.refunds.claim import claim, keep_address, owed_on
from gateway.refunds.destination import NOTHING_OWED, Destination, refuse_amount, resolve_destination
from gateway.sessions import close as closing
from gateway.sessions import deposit
from gateway.sessions import open as opening
from gateway.sessions.decisions import SessionState
from gateway.sessions.open import NewSession, Payer
from gateway.sessions.request import Asked, refuse_inactive
from gateway.sessions.serve import serve_request
from gateway.sessions.statement import read_statement
from gateway.sessions.view import read_session
from lightning.types import NodeUnavailable

MEMO = "Prepaid balance"
PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000


async def create_session(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    asked, raw = await read_model(request, SessionRequest)
    caller = await identify(gateway, request, raw)
    pubkey = caller.pubkey if caller else None
    also = using_up(caller)

    async def prepare() -> None:
        if asked.refund_to is not None:
            await resolve_destination(
                gateway.node, asked.refund_to, NOTHING_OWED, datetime.now(UTC), gateway.destination_rules
            )

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
            await open_unattached(gateway.pool, gateway.node, planned)
        return await view(gateway, session_id)

    scope = f"POST /api/sessions {pubkey}" if pubkey else "POST /api/sessions"
    answering = answered_once(gateway, request, scope, raw, prepare, answer, status=201, caller=caller)
    session_id, status, body = await answering
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


def order(
    request: web.Request,
    session_id: str,
    request_id: str,
    priced: Priced,
    *,
    spend_sats: int | None = None,
    room: bool = True,
) -> Asked:
    """A request as this process will run it. No `room`: no top-up is offered when the balance does not cover it."""
    gateway = request.app[GATEWAY]
    address = client_address(request, gateway.settings.trusted_proxies)
    room = room and not gateway.open_invoices.is_full(gateway.settings.open_invoices_total)
    payer = Payer(session_id, address, gateway.memo(MEMO), gateway.invoice_limits, room)
    owner, lease_s = gateway.session_runs.owner, gateway.settings.lease_s
    return Asked(request_id, session_id, priced, address, owner, lease_s, payer, spend_sats)


async def topup_session(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    session = await require_session(gateway, request)
    asked, raw = await read_model(request, SessionTopupRequest)

    async def prepare() -> None:
        refuse_inactive(session["state"])

    async def answer(_: None, __: str, resumed: bool) -> SessionTopupView:
        address = client_address(request, gateway.settings.trusted_proxies)
        payer = Payer(session["id"], address, gateway.memo(MEMO), gateway.invoice_limits)
        planned = await _planned_topup(gateway, payer, asked.amount_sats, resumed=resumed)
        invoice = await open_unattached(gateway.pool, gateway.node, planned)
        now = await view(gateway, session["id"])
        return SessionTopupView(invoice=open_invoice_view(invoice), state="active", balance_sats=now.balance_sats)

    scope = f"POST /api/sessions/{session['id']}/topups"
    _, status, body = await answered_once(gateway, request, scope, raw, prepare, answer, status=201)
    return json_response(body, status)


async def _planned_topup(gateway: Gateway, payer: Payer, amount_sats: int, *, resumed: bool) -> PlannedInvoice:
    """Raises Problem: not active (any more), too many are open."""
    gateway.open_invoices.refuse_above(gateway.settings.open_invoices_total)
    async with gateway.pool.acquire() as conn, conn.transaction():
        session = await deposit.lock_session(conn, payer.session_id)
        refuse_inactive(session["state"] if session else "expired")
        planned = await opening.plan_topup(conn, payer, amount_sats, resumed=resumed)
    gateway.open_invoices.opened()
    return planned


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
        return None if asked.destination is None else await _destination(gateway, session["id"], asked.destination)

    async def answer(destination: Destination | None, _: str, resumed: bool) -> SessionView:
        await _close(gateway, session["id"], asked.destination, destination)
        return await view(gateway, session["id"])

    scope = f"POST /api/sessions/{session['id']}/close"
    _, status, body = await answered_once(gateway, request, scope, raw, prepare, answer, status=200)
    return json_response(body, status)


def refuse_key(asked: CloseRequest, refund_key_hash: bytes) -> None:
    """Pure. Raises Problem."""
    if asked.destination is None and asked.refund_key is None:
        return
    if asked.refund_key is None or not hmac.compare_digest(token_hash(asked.refund_key), refund_key_hash):
        raise Problem(problems.REFUND_KEY_INVALID, "It was given when the session was opened, beside the token.")


async def _destination(gateway: Gateway, session_id: str, text: str) -> Destination | None:
    """None: an address. Refuses, before anything has changed, what can not be paid. Raises Problem, NodeUnavailable."""
    found = await resolve_destination(gateway.node, text, NOTHING_OWED, datetime.now(UTC), gateway.destination_rules)
    if found is not None:
        await refuse_foreign_use(gateway, session_id, found)
        now = await view(gateway, session_id)
        if now.state in ("active", "expired") and not now.held_sats and now.balance_sats:
            refuse_amount(found.request, now.balance_sats + (await owed_on(gateway.pool, session_id)).sats)
    return found


async def _close(gateway: Gateway, session_id: str, text: str | None, destination: Destination | None) -> None:
    begun = await closing.close(gateway.pool, session_id, text)
    match begun.state_before:
        case SessionState.AWAITING_DEPOSIT:
            await closing.give_up(gateway, session_id)
            if (await view(gateway, session_id)).state == "awaiting_deposit":
                raise NodeUnavailable("LND did not say that the invoice is cancelled")
        case SessionState.ACTIVE | SessionState.CLOSING:
            await closing.finish(gateway, session_id)
    if text is not None and not begun.on_file:
        await _refund_to(gateway, session_id, text, destination)
    gateway.on_file_wake.set()


async def _refund_to(gateway: Gateway, session_id: str, text: str, destination: Destination | None) -> None:
    """Of a session that has ended: claim what it owes. Raises Problem."""
    if destination is None:
        await keep_address(gateway.pool, session_id, text)
        return
    await claim(gateway.pool, session_id, destination, gateway.fee_limit, gateway.settings.refund_min_sats)
    gateway.refund_wake.set()


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


async def view(gateway: Gateway, session_id: str) -> SessionView:
    found = await read_session(gateway.pool, session_id, gateway.settings.refund_min_sats)
    if found is None:
        raise RuntimeError("a session vanished: rows are never deleted")
    return found


def session_token(gateway: Gateway, session_id: str) -> str:
    return bearer_token(gateway.token_secret, "session", session_id)


def refund_key(gateway: Gateway, session_id: str) -> str:
    return bearer_token(gateway.token_secret, "refund", session_id)
