"""A challenge: an invoice, and the token that its payment makes good. Asking costs us no invoice each time.

The token's session is stored with its planned invoice first, like any session; LND is asked after the commit. An
address that asks again is given its unpaid invoice again, as long as that is worth what is asked now.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway.api.models import InvoiceView
from gateway.context import Gateway
from gateway.ids import bearer_token, new_id, token_hash
from gateway.jobs.create import ClientAddress, PlannedInvoice, open_unattached, planned_again
from gateway.jobs.view import open_invoice_view
from gateway.l402.credential import Terms, mint
from gateway.sessions import open as opening
from gateway.sessions.open import TIME_TO_PAY_S, NewSession
from ledger import sql
from ledger.database import Connection, Pool
from ledger.money import sats_to_msat, whole_sats

_q = sql.load("gateway.l402")

MEMO = "Paid requests"


@dataclass(frozen=True, slots=True)
class Challenge:
    token: str
    invoice: InvoiceView


async def ask_for(gateway: Gateway, address: ClientAddress, amount_sats: int) -> Challenge:
    """An open invoice over `amount_sats` (or a little more) and a token of its own. Raises Problem, NodeUnavailable."""
    known = await _unpaid(gateway.pool, gateway, address, amount_sats)
    if known is None or known["state"] != "open":
        return await _opened(gateway, address, amount_sats)
    # LND told this before: asking again costs it nothing.
    invoice = InvoiceView(
        payment_request=known["payment_request"],
        payment_hash=bytes(known["payment_hash"]).hex(),
        amount_sats=whole_sats(known["amount_msat"]),
        expires_at=known["expires_at"],
        state="open",
    )
    return Challenge(_token(gateway, _terms_of(gateway, known)), invoice)


async def _opened(gateway: Gateway, address: ClientAddress, amount_sats: int) -> Challenge:
    async with gateway.pool.acquire() as conn, conn.transaction():
        await conn.execute(_q.lock_address, address)
        known = await _unpaid(conn, gateway, address, amount_sats)
        if known is None:
            terms, planned = await _new(conn, gateway, address, amount_sats)
        else:
            terms, planned = _terms_of(gateway, known), planned_again(known)
    invoice = await open_unattached(gateway.pool, gateway.node, planned)
    return Challenge(_token(gateway, terms), open_invoice_view(invoice))


async def _unpaid(conn: Connection | Pool, gateway: Gateway, address: ClientAddress, amount_sats: int) -> Any | None:
    time_left_s = min(TIME_TO_PAY_S, gateway.invoice_limits.expiry_s // 2)
    return await conn.fetchrow(_q.open_challenge, address, sats_to_msat(amount_sats), time_left_s)


async def _new(
    conn: Connection, gateway: Gateway, address: ClientAddress, amount_sats: int
) -> tuple[Terms, PlannedInvoice]:
    """Raises Problem: too many are open, for this address or in all."""
    gateway.open_invoices.refuse_above(gateway.settings.open_invoices_total)
    session_id = new_id()
    new = NewSession(
        id=session_id,
        # Never told to anybody: the macaroon is the way in.
        token_hash=token_hash(bearer_token(gateway.token_secret, "session", session_id)),
        refund_key_hash=token_hash(bearer_token(gateway.token_secret, "refund", session_id)),
        deposit_sats=amount_sats,
        refund_to=None,
        client_address=address,
        pubkey=None,
        memo=gateway.memo(MEMO),
        is_l402=True,
    )
    planned = await opening.store(conn, new, gateway.invoice_limits, also=None)
    gateway.open_invoices.opened()
    created_at = await conn.fetchval(_q.created_at, session_id)
    return _terms(gateway, planned.payment_hash, amount_sats, created_at), planned


def _token(gateway: Gateway, terms: Terms) -> str:
    return mint(gateway.token_secret, terms, secrets.token_bytes(32))


def _terms_of(gateway: Gateway, known: Any) -> Terms:
    return _terms(gateway, bytes(known["payment_hash"]), known["deposit_sats"], known["created_at"])


def _terms(gateway: Gateway, payment_hash: bytes, amount_sats: int, created_at: datetime) -> Terms:
    valid_until = created_at + timedelta(days=gateway.settings.l402_valid_days)
    return Terms(payment_hash, amount_sats, int(valid_until.timestamp()))
