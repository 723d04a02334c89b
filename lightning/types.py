"""What the node says, as values. Pure: no I/O, no gRPC. Amounts are msat, times are aware UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from ledger.money import Msat


class InvoiceState(StrEnum):
    """LND's own word on an invoice. ACCEPTED exists for hold invoices only."""

    OPEN = "open"
    SETTLED = "settled"
    CANCELED = "canceled"
    ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class NodeInfo:
    pubkey: str
    alias: str
    network: str
    """`mainnet`, `testnet`, `signet` or `regtest`."""
    synced_to_chain: bool
    block_height: int
    version: str


class ChannelBalance(NamedTuple):
    """What the node's open channels can send (`local`) and receive (`remote`), reserves included."""

    local_msat: Msat
    remote_msat: Msat


class Liquidity(NamedTuple):
    """What could be sent and received now: over the channels whose peer is connected, their reserves left out."""

    channels: int
    active: int
    outbound_msat: Msat
    inbound_msat: Msat


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice as LND reports it; never our own belief about it."""

    payment_hash: bytes
    payment_request: str
    memo: str
    amount_msat: Msat
    amount_paid_msat: Msat
    """LND's `amt_paid_msat`: 0 until settled, and what was really paid afterwards."""
    state: InvoiceState
    created_at: datetime
    expires_at: datetime
    add_index: int
    settle_index: int
    """0 until settled."""
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class PaymentRequest:
    """A BOLT11 string, decoded by LND."""

    payment_request: str
    network: str
    destination: str
    payment_hash: bytes
    amount_msat: Msat
    """0: the payer chooses the amount."""
    created_at: datetime
    expires_at: datetime
    min_final_cltv: int
    description: str
    is_plain: bool = True
    """It has a payment address and is no AMP invoice: what LND sends to without further flags."""
    description_hash: bytes = b""
    """32 bytes, or none: the invoice commits to a text that is found elsewhere (LNURL's metadata)."""


class FailureReason(StrEnum):
    """LND's terminal reason for a failed payment."""

    TIMEOUT = "timeout"
    NO_ROUTE = "no_route"
    ERROR = "error"
    INCORRECT_PAYMENT_DETAILS = "incorrect_payment_details"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    UNSPECIFIED = "unspecified"


@dataclass(frozen=True, slots=True)
class Settled:
    """The payment arrived: `sha256(preimage)` was checked against the payment hash."""

    preimage: bytes = field(repr=False)
    amount_msat: Msat
    """Without the routing fee."""
    fee_msat: Msat
    payment_index: int


@dataclass(frozen=True, slots=True)
class Failed:
    """LND's terminal word: no sat left the node, and none can for this try any more."""

    reason: FailureReason
    payment_index: int
    """LND gives a hash a higher one each time it takes up a send of it: tells an old failure from a new one."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """LND works on it (INITIATED or IN_FLIGHT); it can still end either way."""


@dataclass(frozen=True, slots=True)
class NotFound:
    """LND has no payment with this hash. That alone says nothing about failure."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """An RPC error, a deadline, a broken stream, an answer that contradicts itself. Never read as failed."""

    why: str


PaymentOutcome: TypeAlias = Settled | Failed | InFlight | NotFound | Unknown


@dataclass(frozen=True, slots=True)
class ListedPayment:
    """One payment of the node's own list, whoever asked for it; never NotFound."""

    payment_hash: bytes
    outcome: PaymentOutcome


class CancelOutcome(StrEnum):
    """What LND's look-up said after a cancellation was asked for."""

    CANCELED = "canceled"
    SETTLED = "settled"
    STILL_OPEN = "still_open"
    NOT_FOUND = "not_found"


class NodeUnavailable(Exception):
    """The node did not answer (deadline, connection, starting up): nothing is known, try again."""


class NodeRefused(Exception):
    """The node answered with an error that a retry will not change. `code` is the gRPC status name."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"LND refused ({code}): {detail}")
        self.code = code
        self.detail = detail


class InvoiceConflict(Exception):
    """The node knows this payment hash with another amount: the stored preimage must not be used again."""


class BadPaymentRequest(Exception):
    """The string is not a BOLT11 invoice that the node can decode."""
