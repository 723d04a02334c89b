"""A donation to the pool: an invoice of no job. Whenever it settles, what was paid is the pool's."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from itertools import count

from gateway.api.models import InvoiceView
from gateway.jobs.create import (
    MIN_TIME_LEFT_S,
    ClientAddress,
    InvoiceLimits,
    PlannedInvoice,
    open_unattached,
    too_many_unpaid,
)
from gateway.jobs.view import open_invoice_view
from ledger import sql
from ledger.database import Pool
from ledger.money import sats_to_msat
from lightning.node import Node

_q = sql.load("gateway.jobs")


@dataclass(frozen=True, slots=True)
class Gift:
    """`id` is the same in each try of one request with an Idempotency-Key."""

    id: str
    amount_sats: int
    address: ClientAddress
    memo: str


def preimage_of(token_secret: str, gift_id: str, number: int) -> bytes:
    """Of the gift's n-th invoice: an HMAC over its id, so that a retry finds the invoice that was begun. Pure."""
    return hmac.new(token_secret.encode(), f"donation:{gift_id}:{number}".encode(), hashlib.sha256).digest()


async def donate(pool: Pool, node: Node, gift: Gift, token_secret: str, limits: InvoiceLimits) -> InvoiceView:
    """The preimage is stored first. Raises Problem, NodeUnavailable (the sweep ends what nobody can pay)."""
    planned = await _planned(pool, gift, token_secret, limits)
    return open_invoice_view(await open_unattached(pool, node, planned))


async def _planned(pool: Pool, gift: Gift, token_secret: str, limits: InvoiceLimits) -> PlannedInvoice:
    """The gift's invoice that was begun before and can still be paid, else a new one. Raises Problem."""
    for number in count():
        preimage = preimage_of(token_secret, gift.id, number)
        planned = PlannedInvoice(preimage, sats_to_msat(gift.amount_sats), gift.memo, limits.expiry_s)
        if await _stored(pool, planned, gift.address, limits):
            return planned
        begun = await pool.fetchrow(_q.begun_donation, planned.payment_hash)
        if begun is None:
            raise too_many_unpaid(limits)
        if begun["state"] in ("planned", "open") and begun["expiry_s"] >= MIN_TIME_LEFT_S:
            return PlannedInvoice(preimage, planned.amount_msat, begun["memo"], begun["expiry_s"])
    raise AssertionError("count() has no end")


async def _stored(pool: Pool, planned: PlannedInvoice, address: ClientAddress, limits: InvoiceLimits) -> bool:
    """False: it stands already, or the address has as many open invoices as one may have."""
    stored = await pool.fetchval(
        _q.insert_donation,
        planned.payment_hash,
        planned.preimage,
        address,
        planned.amount_msat,
        planned.memo,
        planned.expiry_s,
        limits.open_per_address,
    )
    return stored is not None
