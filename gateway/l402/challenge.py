"""A challenge: an invoice, and the token that its payment makes good. Asking costs us no invoice each time.

The token's session is stored with its planned invoice first, like any session; LND is asked after the commit. An
address that asks again is given its unpaid invoice again, as long as that is worth what is asked now.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.context import Gateway
from gateway.ids import bearer_token, new_id, token_hash
from gateway.jobs.create import ClientAddress, PlannedInvoice, open_unattached, planned_again
from gateway.l402.credential import Terms, mint
from gateway.sessions import open as opening
from gateway.sessions.open import TIME_TO_PAY_S, NewSession
from ledger import sql
from ledger.database import Connection
from ledger.money import sats_to_msat
from lightning.types import Invoice

_q = sql.load("gateway.l402")

MEMO = "Paid requests"


@dataclass(frozen=True, slots=True)
class Challenge:
    token: str
    invoice: Invoice


async def ask_for(gateway: Gateway, address: ClientAddress, amount_sats: int) -> Challenge:
    """An open invoice over `amount_sats` (or a little more) and its token. Raises Problem, NodeUnavailable."""
    async with gateway.pool.acquire() as conn, conn.transaction():
        await conn.execute(_q.lock_address, address)
        terms, planned = await _unpaid(conn, gateway, address, amount_sats) or await _new(
            conn, gateway, address, amount_sats
        )
    invoice = await open_unattached(gateway.pool, gateway.node, planned)
    return Challenge(mint(gateway.token_secret, terms), invoice)


async def _unpaid(
    conn: Connection, gateway: Gateway, address: ClientAddress, amount_sats: int
) -> tuple[Terms, PlannedInvoice] | None:
    time_left_s = min(TIME_TO_PAY_S, gateway.invoice_limits.expiry_s // 2)
    row = await conn.fetchrow(_q.open_challenge, address, sats_to_msat(amount_sats), time_left_s)
    if row is None:
        return None
    terms = _terms(gateway, bytes(row["payment_hash"]), row["id"], row["deposit_sats"], row["created_at"])
    return terms, planned_again(row)


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
    return _terms(gateway, planned.payment_hash, session_id, amount_sats, created_at), planned


def _terms(gateway: Gateway, payment_hash: bytes, session_id: str, amount_sats: int, created_at: datetime) -> Terms:
    valid_until = created_at + timedelta(days=gateway.settings.l402_valid_days)
    return Terms(payment_hash, session_id, amount_sats, int(valid_until.timestamp()))
