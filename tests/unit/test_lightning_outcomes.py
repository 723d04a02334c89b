"""What LND's word on a payment means: the whole truth table."""

from __future__ import annotations

import hashlib

import pytest

from ledger.money import Msat
from lightning import convert
from lightning.outcomes import payment_outcome
from lightning.stubs import ln
from lightning.types import Failed, FailureReason, InFlight, PaymentOutcome, Settled, Unknown

PREIMAGE = b"\x07" * 32
HASH = hashlib.sha256(PREIMAGE).digest()
UNKNOWN, IN_FLIGHT, SUCCEEDED, FAILED, INITIATED, NEWER = range(6)


def outcome(status: int, *, preimage: bytes = b"\x00" * 32, failure_reason: int = 0) -> PaymentOutcome:
    return payment_outcome(
        expected_hash=HASH,
        status=status,
        preimage=preimage,
        amount_msat=5000,
        fee_msat=7,
        payment_index=3,
        failure_reason=failure_reason,
    )


def test_succeeded_with_the_right_preimage_is_settled() -> None:
    assert outcome(SUCCEEDED, preimage=PREIMAGE) == Settled(PREIMAGE, Msat(5000), Msat(7), 3)


@pytest.mark.parametrize("preimage", [b"", b"\x00" * 32, b"\x08" * 32, PREIMAGE + b"\x00"])
def test_succeeded_with_any_other_preimage_is_unknown(preimage: bytes) -> None:
    assert isinstance(outcome(SUCCEEDED, preimage=preimage), Unknown)


@pytest.mark.parametrize("status", [IN_FLIGHT, INITIATED])
def test_what_can_still_end_either_way_is_in_flight(status: int) -> None:
    assert outcome(status) == InFlight()
    assert outcome(status, preimage=PREIMAGE, failure_reason=2) == InFlight()


@pytest.mark.parametrize("status", [UNKNOWN, NEWER, 77, -1])
def test_a_status_that_nobody_knows_is_unknown(status: int) -> None:
    assert isinstance(outcome(status, preimage=PREIMAGE, failure_reason=1), Unknown)


@pytest.mark.parametrize(
    ("failure_reason", "expected"),
    [
        (0, FailureReason.UNSPECIFIED),
        (1, FailureReason.TIMEOUT),
        (2, FailureReason.NO_ROUTE),
        (3, FailureReason.ERROR),
        (4, FailureReason.INCORRECT_PAYMENT_DETAILS),
        (5, FailureReason.INSUFFICIENT_BALANCE),
        (6, FailureReason.UNSPECIFIED),
        (99, FailureReason.UNSPECIFIED),
    ],
)
def test_failed_carries_lnds_reason(failure_reason: int, expected: FailureReason) -> None:
    assert outcome(FAILED, failure_reason=failure_reason) == Failed(expected, 3)


@pytest.mark.parametrize(
    ("status", "expected"), [(IN_FLIGHT, InFlight()), (INITIATED, InFlight()), (NEWER, Unknown("payment status 5"))]
)
def test_a_message_newer_than_the_stubs_is_read_by_number(status: int, expected: PaymentOutcome) -> None:
    wire = ln.Payment(payment_hash=HASH.hex(), value_msat=5000).SerializeToString() + bytes([10 << 3, status])
    assert convert.payment(ln.Payment.FromString(wire), HASH) == expected


def test_another_payments_preimage_is_not_ours() -> None:
    message = ln.Payment(status=2, payment_preimage=PREIMAGE.hex(), value_msat=5000)
    assert isinstance(convert.payment(message, HASH), Settled)
    assert isinstance(convert.payment(message, b"\x01" * 32), Unknown)
