"""The narrow face of a Lightning node: all that the gateway asks of one. `lnd.LndNode` is the real one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from ledger.money import Msat
from lightning.types import (
    CancelOutcome,
    ChannelBalance,
    Invoice,
    Liquidity,
    ListedPayment,
    NodeInfo,
    PaymentOutcome,
    PaymentRequest,
)


class InvoiceReader(Protocol):
    """What the watcher needs; a macaroon that only reads invoices is enough."""

    async def get_info(self) -> NodeInfo:
        """Raises NodeUnavailable."""
        ...

    async def lookup_invoice(self, payment_hash: bytes) -> Invoice | None:
        """None: LND says it knows no such invoice. Raises NodeUnavailable."""
        ...

    def subscribe_settlements(self, settle_index: int) -> AsyncGenerator[Invoice, None]:
        """Settled invoices: the backlog after `settle_index` (0: none), then live ones.

        Ends by raising NodeUnavailable when the stream breaks; never ends silently. Who stops reading closes it
        (`contextlib.aclosing`). An index above the node's own hides live ones: the look-up is the authority.
        """
        ...


class Node(InvoiceReader, Protocol):
    async def identity(self) -> NodeInfo:
        """As `get_info`, for key and network: an answer of the last two seconds will do. Raises NodeUnavailable."""
        ...

    async def add_invoice(self, preimage: bytes, amount_msat: Msat, memo: str, expiry_s: int) -> Invoice:
        """Open an invoice for a preimage that is already stored; idempotent by its hash.

        LND answers a known hash with gRPC UNKNOWN: it is then looked up and its amount compared.
        Raises NodeUnavailable (it may or may not exist now), InvoiceConflict, NodeRefused.
        """
        ...

    async def cancel_invoice(self, payment_hash: bytes) -> CancelOutcome:
        """Cancel, then look up: the answer is what LND says the invoice is now. Raises NodeUnavailable."""
        ...

    async def decode(self, payment_request: str) -> PaymentRequest:
        """Raises BadPaymentRequest, NodeUnavailable."""
        ...

    async def send_payment(
        self,
        payment_request: str,
        *,
        amount_msat: Msat | None,
        fee_limit_msat: Msat,
        cltv_limit: int,
        timeout_s: int,
        deadline_s: float,
    ) -> PaymentOutcome:
        """`SendPaymentV2`, followed until terminal or until `deadline_s` is over.

        `amount_msat` only for an amountless invoice. `fee_limit_msat` is always explicit: LND reads 0 as
        "free routes only". Never raises for what the node says; anything but a terminal word is InFlight
        or Unknown (also "already exists", "already paid", "expired": the look-up decides).
        """
        ...

    async def track_payment(self, payment_hash: bytes, *, deadline_s: float) -> PaymentOutcome:
        """`TrackPaymentV2`: the first terminal word within the deadline, else the last known state."""
        ...

    async def channel_balance(self) -> ChannelBalance:
        """Sums over the open channels. Raises NodeUnavailable."""
        ...

    async def liquidity(self) -> Liquidity:
        """From the node's list of channels. Raises NodeUnavailable."""
        ...

    async def highest_payment_index(self) -> int:
        """The largest `payment_index` in the node's history, 0 when empty. Raises NodeUnavailable."""
        ...

    def list_invoices(self, *, after_add_index: int = 0) -> AsyncGenerator[Invoice, None]:
        """All invoices in the order of `add_index`, paged. Raises NodeUnavailable."""
        ...

    def list_payments(self) -> AsyncGenerator[ListedPayment, None]:
        """All payments that the node ever took up, also failed and unfinished ones, paged. Raises NodeUnavailable."""
        ...
