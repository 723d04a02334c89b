"""A donation to the pool: an invoice of no job. Whenever it settles, what was paid is the pool's."""

from __future__ import annotations

from gateway.api.models import InvoiceView
from gateway.jobs.create import ClientAddress, InvoiceLimits, plan_invoice, too_many_unpaid
from ledger import sql
from ledger.database import Pool
from lightning.node import Node

_q = sql.load("gateway.jobs")


async def donate(
    pool: Pool, node: Node, amount_sats: int, address: ClientAddress, memo: str, limits: InvoiceLimits
) -> InvoiceView:
    """The preimage is stored first. Raises Problem, NodeUnavailable (the sweep ends what nobody can pay)."""
    planned = plan_invoice(amount_sats, memo, limits.expiry_s)
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
    if stored is None:
        raise too_many_unpaid(limits)
    invoice = await node.add_invoice(planned.preimage, planned.amount_msat, planned.memo, planned.expiry_s)
    await pool.execute(_q.record_open, planned.payment_hash, invoice.payment_request, invoice.expires_at)
    return InvoiceView(
        payment_request=invoice.payment_request,
        payment_hash=planned.payment_hash.hex(),
        amount_sats=amount_sats,
        expires_at=invoice.expires_at,
        state="open",
    )
