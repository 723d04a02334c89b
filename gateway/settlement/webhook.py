"""`POST /webhooks/lightning/invoice-settled`: signature and age, then LND's own word, then one transaction.

A signed lie moves no money: the amount and the state are LND's, never the body's. LND's word is what its stream told
this process (`heard`), or else the answer to a look-up.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from aiohttp import web
from pydantic import ValidationError

from gateway import problems
from gateway.api.body import parse_json, read_raw
from gateway.api.models import InvoiceSettledEvent
from gateway.context import GATEWAY, Gateway
from gateway.execution.queue import enqueue
from gateway.jobs.settle import Settlement, settle
from gateway.jobs.settle_group import begun_by
from gateway.jobs.view import Row
from gateway.problems import Problem
from gateway.settlement.event import is_signed
from lightning.types import Invoice, InvoiceState

log = logging.getLogger(__name__)


async def invoice_settled(request: web.Request) -> web.Response:
    """204 once booked, also for a repeat. 401 unsigned or stale, 404 unknown_invoice, 409 not_settled, 503."""
    await receive(request.app[GATEWAY], await read_raw(request), request.headers)
    return web.Response(status=204)


async def receive(gateway: Gateway, raw: bytes, headers: Mapping[str, str]) -> None:
    """Raises Problem, NodeUnavailable: nothing was booked."""
    if not is_signed(gateway.webhook_secret, raw, headers):
        raise Problem(problems.WEBHOOK_SIGNATURE, "Sign it as Standard Webhooks says, not more than 5 minutes ago.")
    try:
        event = InvoiceSettledEvent.model_validate(parse_json(raw))
    except ValidationError as error:
        raise Problem(problems.INVALID_BODY, str(error.errors(include_url=False)[0]["msg"])) from None
    await book(gateway, bytes.fromhex(event.data.payment_hash))


async def book(gateway: Gateway, payment_hash: bytes) -> Settlement:
    """Book what LND itself says of the invoice. Raises Problem, NodeUnavailable."""
    heard = gateway.heard.of(payment_hash)
    plain = gateway.plain_invoices.begun_by(heard) if heard else None
    if plain is not None and await gateway.settlements.submit(plain):
        return _booked(gateway, payment_hash, plain.job_id, None, Settlement.STARTED)
    known = await gateway.invoice_rows.submit(payment_hash)
    if known is None:
        raise Problem(problems.UNKNOWN_INVOICE)
    if known["state"] == "settled":
        return Settlement.REPEATED
    invoice = heard or await gateway.node.lookup_invoice(payment_hash)
    if invoice is None or invoice.state is not InvoiceState.SETTLED:
        raise Problem(problems.NOT_SETTLED, "Nothing was booked.")
    did = await _settle(gateway, known, invoice)
    return _booked(gateway, payment_hash, known["job_id"], known["session_id"], did)


async def _settle(gateway: Gateway, known: Row, invoice: Invoice) -> Settlement:
    """With others if it is plain; what is not so any more when its turn comes is settled by itself."""
    plain = begun_by(known, invoice)
    if plain is not None and await gateway.settlements.submit(plain):
        return Settlement.STARTED
    return await settle(gateway.pool, invoice, enqueue, gateway.rules)


def _booked(
    gateway: Gateway, payment_hash: bytes, job_id: str | None, session_id: str | None, did: Settlement
) -> Settlement:
    """Whoever watches the job or session (a donation: its hash) hears of it."""
    gateway.hub.tell(job_id or session_id or payment_hash.hex())
    gateway.metrics.settlements.labels(did.value).inc()
    log.info("settlement: %s", did.value, extra={"job_id": job_id, "payment_hash": payment_hash.hex()})
    return did
