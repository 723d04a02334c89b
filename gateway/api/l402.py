"""Who pays for a call: a session by its bearer token, or an L402 token with its preimage. All others: 402."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from aiohttp import web

from gateway import problems
from gateway.api.access import client_address, require_session
from gateway.context import GATEWAY, Gateway
from gateway.l402.challenge import ask_for
from gateway.l402.credential import Allowed, Credential, allows, challenge, is_l402, read
from gateway.problems import Problem
from gateway.sessions.decisions import SessionState
from gateway.settlement.webhook import book
from ledger import sql

_q = sql.load("gateway.l402")

WANTED = "X-Deposit-Sats"
"""What the caller wants his next token to be worth, if that is more than the request may cost."""
MAX_SATS = 100_000_000
ENDED = {
    SessionState.CLOSING: "This token is being closed; what is left of it will be owed back.",
    SessionState.CLOSED: "This token was closed, and what was left of it is owed back.",
    SessionState.EXPIRED: "This token was not used for too long. Close it to take back what is left.",
}
UNAUTHENTICATED = {"WWW-Authenticate": "L402, Bearer"}


@dataclass(frozen=True, slots=True)
class PaidBy:
    """`spend_sats`: what the token is worth in all; None: whatever the session has."""

    session: Any
    is_l402: bool = False
    spend_sats: int | None = None


@dataclass(frozen=True, slots=True)
class Unpaid:
    """Nothing was shown, or what was shown is used up: a challenge is due, once the price is known."""

    why: str = ""


Payer: TypeAlias = PaidBy | Unpaid


async def payer_of(request: web.Request) -> Payer:
    """Raises Problem (401): what was shown is no credential of ours, or not for this address; NodeUnavailable."""
    gateway = request.app[GATEWAY]
    header = request.headers.get("Authorization", "")
    if not header:
        return Unpaid()
    if not is_l402(header):
        return PaidBy(await require_session(gateway, request))
    credential, session = await _opened(gateway, header)
    allowed = allows(credential.caveats, request.path, datetime.now(UTC))
    if isinstance(allowed, Allowed) and session["state"] == SessionState.ACTIVE:
        return PaidBy(session, is_l402=True, spend_sats=allowed.spend_sats)
    if isinstance(allowed, Allowed):
        return Unpaid(ENDED.get(session["state"], ""))
    if allowed.over:
        return Unpaid(allowed.why)
    raise _invalid(allowed.why)


async def require_owner(gateway: Gateway, request: web.Request) -> tuple[Any, bool]:
    """The session, and whether what was shown is its whole L402 credential: only who paid has that.

    A token that was handed on with more caveats opens nothing here. Raises Problem (401), NodeUnavailable.
    """
    header = request.headers.get("Authorization", "")
    if not is_l402(header):
        return await require_session(gateway, request), False
    credential, session = await _opened(gateway, header)
    if not credential.is_whole:
        raise _invalid("Only the token as it was given, with its preimage, can close it.")
    return session, True


async def _opened(gateway: Gateway, header: str) -> tuple[Credential, Any]:
    """A client may be faster than the settlement's way to us: LND is asked, and what it says is booked first."""
    credential = read(gateway.token_secret, header)
    session = None if credential is None else await gateway.pool.fetchrow(_q.of_payment, credential.payment_hash)
    if credential is None or session is None:
        raise _invalid("The token is not one of this gateway's, or the preimage is not its payment's.")
    if session["invoice_state"] != "settled":
        try:
            await book(gateway, credential.payment_hash)
        except Problem:
            raise _invalid("The token's invoice is not paid.") from None
        session = await gateway.pool.fetchrow(_q.of_payment, credential.payment_hash)
    if session is None:
        raise RuntimeError("a session vanished: rows are never deleted")
    if not hmac.compare_digest(credential.preimage, bytes(session["preimage"])):
        raise _invalid("The preimage is not the payment's.")
    if not await _is_holder(gateway, credential, session):
        raise _invalid("Another token of the same invoice was used first.")
    return credential, session


async def _is_holder(gateway: Gateway, credential: Credential, session: Any) -> bool:
    """Whoever shares an address is shown the same invoice: the first token that comes with its preimage is the one."""
    holder = session["l402_holder"]
    if holder is None:
        await gateway.pool.execute(_q.hold, session["id"], credential.holder)
        holder = (await gateway.pool.fetchrow(_q.of_payment, credential.payment_hash) or session)["l402_holder"]
    return hmac.compare_digest(credential.holder, bytes(holder))


async def challenged(request: web.Request, price_sats: int, why: str = "") -> Problem:
    """The 402: an invoice over the most that the call may cost, and its token. Raises Problem, NodeUnavailable."""
    gateway = request.app[GATEWAY]
    address = client_address(request, gateway.settings.trusted_proxies)
    found = await ask_for(gateway, address, max(price_sats, _wanted(request)))
    extra = {"estimateSats": price_sats, "token": found.token, "invoice": found.invoice.wire()}
    headers = {"WWW-Authenticate": challenge(found.token, found.invoice.payment_request)}
    detail = "What it does not use up pays for your next requests, or comes back to you."
    return Problem(problems.PAYMENT_REQUIRED, f"{why} {detail}".strip(), extra, headers)


def _wanted(request: web.Request) -> int:
    text = request.headers.get(WANTED, "0")
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) > MAX_SATS:
        raise Problem(problems.INVALID_REQUEST, f"{WANTED} is a whole number of sats, at most {MAX_SATS}.")
    return int(text)


def _invalid(why: str) -> Problem:
    return Problem(problems.CREDENTIAL_INVALID, why, headers=UNAUTHENTICATED)
