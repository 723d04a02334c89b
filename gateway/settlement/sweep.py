"""The look-up sweep: own invoices that are not final are looked up at LND. This, not the stream, is the authority."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

import asyncpg

from gateway.jobs.end_unpaid import Unpaid, record_gone, record_open, unpaid_invoice
from gateway.jobs.evaluate import open_work_invoice, unopened_invoice
from gateway.jobs.open_invoices import OpenInvoices
from gateway.jobs.settle import Enqueue, Settlement, settle
from gateway.metrics import Metrics
from ledger import sql
from ledger.database import Pool
from ledger.free_tier import Rules
from lightning.node import Node
from lightning.types import Invoice, InvoiceConflict, InvoiceState, NodeRefused, NodeUnavailable

_q = sql.load("gateway.jobs")
log = logging.getLogger(__name__)

PAGE = 500
AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Swept:
    looked_up: int
    settled: int
    unbooked: int
    """Settled at the node, and booking it failed: the alarm."""


@dataclass(slots=True)
class Sweep:
    pool: Pool
    node: Node
    metrics: Metrics
    enqueue: Enqueue
    interval_s: float
    wake: asyncio.Event
    rules: Rules
    open_invoices: OpenInvoices = field(default_factory=OpenInvoices)

    async def run(self) -> None:
        """At start, whenever woken (the node was reached again), and on a timer."""
        while True:
            self.wake.clear()
            try:
                await self.once()
            except NodeUnavailable as error:
                log.warning("the sweep waits for the node: %s", error)
            try:
                async with asyncio.timeout(self.interval_s):
                    await self.wake.wait()
            except TimeoutError:
                continue

    async def once(self) -> Swept:
        """One pass over all invoices that are not final. Raises NodeUnavailable."""
        rows: list[asyncpg.Record] = []
        while page := await self.pool.fetch(_q.invoices_to_look_up, PAGE, len(rows)):
            rows += page
        self.open_invoices.counted(len(rows))
        slots = asyncio.Semaphore(AT_ONCE)

        async def look(payment_hash: bytes, state: str, past_expiry: bool) -> Unpaid | None:
            async with slots:
                return await self._look(payment_hash, state, past_expiry=past_expiry)

        found = await asyncio.gather(
            *(look(bytes(row["payment_hash"]), row["state"], row["past_expiry"]) for row in rows),
            return_exceptions=True,
        )
        unbooked = sum(isinstance(result, _Unbooked) for result in found)
        fell = [one for one in found if isinstance(one, BaseException) and not isinstance(one, _Unbooked)]
        if unbooked or not fell:  # nothing is said to be well that was not looked at
            self.metrics.settled_unbooked.set(unbooked)
        if fell:
            raise fell[0]
        self.metrics.swept = True
        return Swept(len(rows), sum(result is Unpaid.SETTLED for result in found), unbooked)

    async def _look(self, payment_hash: bytes, state: str, *, past_expiry: bool) -> Unpaid:
        invoice = await self.node.lookup_invoice(payment_hash)
        if state == "planned" and await self._opened(payment_hash, invoice, past_expiry=past_expiry):
            return Unpaid.STILL_OPEN
        meaning = unpaid_invoice(invoice, past_expiry=past_expiry)
        if meaning is Unpaid.GONE:
            if await record_gone(self.pool, payment_hash):
                log.info("job expired unpaid", extra={"payment_hash": payment_hash.hex()})
        elif invoice is not None and invoice.state is InvoiceState.SETTLED:
            await self._book(payment_hash, invoice)
        elif invoice is not None and state == "planned":
            await record_open(self.pool, invoice)
        return meaning

    async def _opened(self, payment_hash: bytes, invoice: Invoice | None, *, past_expiry: bool) -> bool:
        """An evaluated job waits for its invoice, and whoever was to open it died: nobody else would."""
        cancelled = invoice is not None and invoice.state is InvoiceState.CANCELED
        if invoice is not None and not cancelled:
            return False
        planned = await unopened_invoice(self.pool, payment_hash, can_open=not (cancelled or past_expiry))
        if planned is None:
            return False
        try:
            await open_work_invoice(self.pool, self.node, planned)
        except (InvoiceConflict, NodeRefused):
            log.exception("ALARM: LND refuses an invoice", extra={"payment_hash": planned.payment_hash.hex()})
        else:
            log.info("the sweep opened an invoice", extra={"payment_hash": planned.payment_hash.hex()})
        return True

    async def _book(self, payment_hash: bytes, invoice: Invoice) -> None:
        try:
            did = await settle(self.pool, invoice, self.enqueue, self.rules)
        except Exception as error:
            log.exception("ALARM: settled at the node but not booked", extra={"payment_hash": payment_hash.hex()})
            raise _Unbooked(str(error)) from error
        if did is not Settlement.REPEATED:
            self.metrics.sweep_found.inc()
            self.metrics.settlements.labels(did.value).inc()
            log.info("the sweep found a settlement", extra={"payment_hash": payment_hash.hex(), "did": did.value})


class _Unbooked(Exception):
    """Counted, not raised further: one invoice holds up no other."""
