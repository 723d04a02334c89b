"""What LND's own stream said of settled invoices, in this process, until they are booked.

Settled is final at LND: whoever heard it from LND itself need not look it up again. Nothing but that stream writes
here, so that a webhook, however signed, moves nothing by what it says.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lightning.types import Invoice, InvoiceState


@dataclass(slots=True)
class Heard:
    _invoices: dict[bytes, Invoice] = field(default_factory=dict)

    def keep(self, invoice: Invoice) -> None:
        """As the stream told it. Only what is settled is final."""
        if invoice.state is InvoiceState.SETTLED and invoice.settled_at is not None:
            self._invoices[invoice.payment_hash] = invoice

    def of(self, payment_hash: bytes) -> Invoice | None:
        return self._invoices.get(payment_hash)

    def forget(self, payment_hash: bytes) -> None:
        """It was acknowledged, or set aside: LND is asked from here on."""
        self._invoices.pop(payment_hash, None)
