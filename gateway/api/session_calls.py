"""What API and pages do with a session, once they know who asks. No money is decided here."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime

from aiohttp import web

from gateway import problems
from gateway.api.access import client_address
from gateway.api.jobs import refuse_foreign_use
from gateway.api.models import SessionRequest, SessionTopupView, SessionView
from gateway.context import GATEWAY, Gateway
from gateway.ids import bearer_token, token_hash
from gateway.jobs.create import Also, PlannedInvoice, open_unattached
from gateway.jobs.price import Priced
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
from gateway.sessions.view import read_session
from lightning.types import NodeUnavailable

MEMO = "Prepaid balance"


def require_refund_key(key: str | None, refund_key_hash: bytes) -> None:
    """Constant time. Pure. Raises Problem (403)."""
    if key is None or not hmac.compare_digest(token_hash(key), refund_key_hash):
        raise Problem(problems.REFUND_KEY_INVALID, "It was given when the session was opened, beside the token.")


async def check_refund_to(gateway: Gateway, refund_to: str | None) -> None:
    """Before anything is written. Raises Problem, NodeUnavailable."""
    if refund_to is not None:
        rules, now = gateway.destination_rules, datetime.now(UTC)
        await resolve_destination(gateway.node, refund_to, NOTHING_OWED, now, rules)


async def open_session(
    request: web.Request,
    gateway: Gateway,
    asked: SessionRequest,
    session_id: str,
    *,
    resumed: bool,
    pubkey: str | None,
    also: Also | None = None,
) -> SessionView:
    """With an invoice over its deposit. `resumed`: an earlier call of the same key may have made it. Raises Problem."""
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


async def _stored(gateway: Gateway, new: NewSession, also: Also | None, *, resumed: bool) -> PlannedInvoice | None:
    """What is to be opened at LND; None: nothing, the session is there as it should be. Raises Problem."""
    async with gateway.pool.acquire() as conn, conn.transaction():
        if resumed and await deposit.lock_session(conn, new.id) is not None:
            if also is not None:
                await also.run_again(conn)
            return await opening.resume(conn, new, gateway.invoice_limits)
        gateway.open_invoices.refuse_above(gateway.settings.open_invoices_total)
        planned = await opening.store(conn, new, gateway.invoice_limits, also)
    gateway.open_invoices.opened()
    return planned


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


async def add_topup(
    request: web.Request, gateway: Gateway, session_id: str, amount_sats: int, *, resumed: bool
) -> SessionTopupView:
    """An invoice over it. Raises Problem: not active (any more), too many are open; NodeUnavailable."""
    address = client_address(request, gateway.settings.trusted_proxies)
    payer = Payer(session_id, address, gateway.memo(MEMO), gateway.invoice_limits)
    planned = await _planned_topup(gateway, payer, amount_sats, resumed=resumed)
    invoice = await open_unattached(gateway.pool, gateway.node, planned)
    now = await view(gateway, session_id)
    return SessionTopupView(invoice=open_invoice_view(invoice), state="active", balance_sats=now.balance_sats)


async def _planned_topup(gateway: Gateway, payer: Payer, amount_sats: int, *, resumed: bool) -> PlannedInvoice:
    """Raises Problem: not active (any more), too many are open."""
    gateway.open_invoices.refuse_above(gateway.settings.open_invoices_total)
    async with gateway.pool.acquire() as conn, conn.transaction():
        session = await deposit.lock_session(conn, payer.session_id)
        refuse_inactive(session["state"] if session else "expired")
        planned = await opening.plan_topup(conn, payer, amount_sats, resumed=resumed)
    gateway.open_invoices.opened()
    return planned


async def checked_destination(gateway: Gateway, session_id: str, text: str) -> Destination | None:
    """None: an address. Refuses, before anything has changed, what can not be paid. Raises Problem, NodeUnavailable."""
    found = await resolve_destination(gateway.node, text, NOTHING_OWED, datetime.now(UTC), gateway.destination_rules)
    if found is not None:
        await refuse_foreign_use(gateway, session_id, found)
        now = await view(gateway, session_id)
        if now.state in ("active", "expired") and not now.held_sats and now.balance_sats:
            refuse_amount(found.request, now.balance_sats + (await owed_on(gateway.pool, session_id)).sats)
    return found


async def end_session(gateway: Gateway, session_id: str, text: str | None, destination: Destination | None) -> None:
    """Close it; what it owes goes to `text` (as `destination`, if an invoice). Raises Problem, NodeUnavailable."""
    begun = await closing.close(gateway.pool, session_id, text)
    match begun.state_before:
        case SessionState.AWAITING_DEPOSIT:
            await closing.give_up(gateway, session_id)
            state = (await view(gateway, session_id)).state
            if state == "awaiting_deposit":
                raise NodeUnavailable("LND did not say that the invoice is cancelled")
            if state != "expired":
                raise closing.paid_just_now()  # and booked before LND was asked
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


async def view(gateway: Gateway, session_id: str) -> SessionView:
    found = await read_session(gateway.pool, session_id, gateway.settings.refund_min_sats)
    if found is None:
        raise RuntimeError("a session vanished: rows are never deleted")
    return found


def session_token(gateway: Gateway, session_id: str) -> str:
    return bearer_token(gateway.token_secret, "session", session_id)


def refund_key(gateway: Gateway, session_id: str) -> str:
    return bearer_token(gateway.token_secret, "refund", session_id)
