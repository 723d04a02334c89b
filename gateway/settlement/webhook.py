"""`POST /webhooks/lightning/invoice-settled`: signature and age, then LND itself is asked, then one transaction.

A signed lie moves no money: the amount and the state are LND's, never the body's.
"""

from __future__ import annotations

import logging

from aiohttp import web
from pydantic import ValidationError

from gateway import problems
from gateway.api.body import parse_json, read_raw
from gateway.api.models import InvoiceSettledEvent
from gateway.context import GATEWAY, Gateway
from gateway.execution.queue import enqueue
from gateway.jobs.settle import Settlement, settle
from gateway.jobs.settle_group import goes_with_others
from gateway.problems import Problem
from gateway.settlement.event import is_signed
from lightning.types import InvoiceState

log = logging.getLogger(__name__)


async def invoice_settled(request: web.Request) -> web.Response:
    """204 once booked, also for a repeat. 401 unsigned or stale, 404 unknown_invoice, 409 not_settled, 503."""
    gateway = request.app[GATEWAY]
    raw = await read_raw(request)
    if not is_signed(gateway.webhook_secret, raw, request.headers):
        raise Problem(problems.WEBHOOK_SIGNATURE, "Sign it as Standard Webhooks says, not more than 5 minutes ago.")
    try:
        event = InvoiceSettledEvent.model_validate(parse_json(raw))
    except ValidationError as error:
        raise Problem(problems.INVALID_BODY, str(error.errors(include_url=False)[0]["msg"])) from None
    await book(gateway, bytes.fromhex(event.data.payment_hash))
    return web.Response(status=204)


async def book(gateway: Gateway, payment_hash: bytes) -> Settlement:
    """Look the invoice up at LND and book what it says. Raises Problem, NodeUnavailable."""
    known = await gateway.invoice_rows.submit(payment_hash)
    if known is None:
        raise Problem(problems.UNKNOWN_INVOICE)
    if known["state"] == "settled":
        return Settlement.REPEATED
    invoice = await gateway.node.lookup_invoice(payment_hash)
    if invoice is None or invoice.state is not InvoiceState.SETTLED:
        raise Problem(problems.NOT_SETTLED, "Nothing was booked.")
    if goes_with_others(known):
        did = await gateway.settlements.submit(invoice)
    else:
        did = await settle(gateway.pool, invoice, enqueue, gateway.rules)
    gateway.hub.tell(known["job_id"] or known["session_id"] or payment_hash.hex())
    gateway.metrics.settlements.labels(did.value).inc()
    log.info("settlement: %s", did.value, extra={"job_id": known["job_id"], "payment_hash": payment_hash.hex()})
    return did
