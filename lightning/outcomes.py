"""What a payment's state at LND means, as one pure function over the numbers that LND sends."""

from __future__ import annotations

import hashlib

from ledger.money import Msat
from lightning.types import Failed, FailureReason, InFlight, PaymentOutcome, Settled, Unknown

IN_FLIGHT = 1
SUCCEEDED = 2
FAILED = 3
INITIATED = 4
"""Newer than the stubs: created, no HTLC attempted yet."""

_REASONS = {
    1: FailureReason.TIMEOUT,
    2: FailureReason.NO_ROUTE,
    3: FailureReason.ERROR,
    4: FailureReason.INCORRECT_PAYMENT_DETAILS,
    5: FailureReason.INSUFFICIENT_BALANCE,
}


def payment_outcome(
    *,
    expected_hash: bytes,
    status: int,
    preimage: bytes,
    amount_msat: int,
    fee_msat: int,
    payment_index: int,
    failure_reason: int,
) -> PaymentOutcome:
    """`status` and `failure_reason` are LND's enum numbers; a number not known here is never read as an end.

    Paid means SUCCEEDED *and* a preimage that hashes to the payment hash we meant to pay.
    """
    if status in (IN_FLIGHT, INITIATED):
        return InFlight()
    if status == SUCCEEDED:
        if hashlib.sha256(preimage).digest() != expected_hash:
            return Unknown("SUCCEEDED, but the preimage does not hash to the payment hash")
        return Settled(preimage, Msat(amount_msat), Msat(fee_msat), payment_index)
    if status == FAILED:
        return Failed(_REASONS.get(failure_reason, FailureReason.UNSPECIFIED), payment_index)
    return Unknown(f"payment status {status}")
