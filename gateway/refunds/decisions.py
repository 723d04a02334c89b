"""The next step of a refund attempt, as one pure function over stored facts and LND's look-up.

Rule's source: ARCHITECTURE.md, "Refunds". The look-up decides, never a guess: anything that is not LND's
terminal word leaves the attempt unfinished.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

from gateway.refunds.fees import FeeBound
from lightning.types import Failed, FailureReason, InFlight, NotFound, PaymentOutcome, Settled, Unknown

EXPIRY_MARGIN = timedelta(seconds=10)
"""An invoice is not sent to in its last seconds."""
FINALLY_FAILED_AFTER = timedelta(seconds=60)
"""After the expiry: LND refuses an expired invoice, so a send still on its way can do nothing by then."""
NO_HTLC_LIVES_AFTER = timedelta(days=28)
"""After the expiry: no send leaves later, and an HTLC lasts 2016 blocks at most (the largest `cltv_limit`): two weeks
at the usual pace, and as much again for slow blocks and for what is resolved on chain."""
MAX_SENDS = 4
"""That the node said nothing of; and in all, when a fee budget left less than the usual limit."""
RETRYABLE = frozenset({FailureReason.TIMEOUT, FailureReason.NO_ROUTE})


@dataclass(frozen=True, slots=True)
class Facts:
    """What is stored of an attempt, and what was asked of the node now."""

    amount_msat: int
    expires_at: datetime
    sends: int
    """Counted before each send leaves."""
    failed_sends: int
    """Sends that LND's terminal FAILED accounted for."""
    last_failed_index: int
    """LND's payment index of the last FAILED: the next send of a hash gets a higher one."""
    update_seen: bool
    """LND once showed a payment for this attempt."""
    history_intact: bool
    """Same node key, its highest payment index is not lower than recorded, and no older backup was restored here."""
    fee_bound: FeeBound | None = None
    """The budget that left less than the usual fee limit."""


@dataclass(frozen=True, slots=True)
class Send:
    """Count one more send, commit, send (the same hash, always)."""


@dataclass(frozen=True, slots=True)
class SendLater:
    """A retryable failure: count it, and look again after a while. Meanwhile a new destination may take its place."""

    failed_index: int
    delay: timedelta
    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is decided. `update_seen`: LND showed the payment."""

    update_seen: bool
    why: str


@dataclass(frozen=True, slots=True)
class Paid:
    preimage: bytes
    fee_msat: int


class AddressAsked(StrEnum):
    """When an address on file is asked for another invoice by itself, after its attempt failed finally."""

    NEVER = "never"
    """It was tried: it says why, and its owner gives another or the same again."""
    TOMORROW = "tomorrow"
    """A larger fee budget might have found a route."""
    SOON = "soon"
    """Nothing was sent to it in time: no fault of the address."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Finally failed: no sat left the node for it and none can any more. The debt waits for a new destination."""

    reason: str
    address_asked: AddressAsked = AddressAsked.NEVER


@dataclass(frozen=True, slots=True)
class Freeze:
    """The node's history contradicts ours: never send again, raise the alarm, the operator decides."""

    reason: str


Step: TypeAlias = Send | SendLater | Wait | Paid | GiveUp | Freeze

WORDS = {
    FailureReason.TIMEOUT: "The payment found no way through in time.",
    FailureReason.NO_ROUTE: "There is no route to this wallet, or none within the fee limit.",
    FailureReason.INCORRECT_PAYMENT_DETAILS: "The wallet refused the payment: it does not know this invoice.",
    FailureReason.INSUFFICIENT_BALANCE: "The gateway's node can not send this much just now.",
    FailureReason.ERROR: "The payment failed.",
    FailureReason.UNSPECIFIED: "The payment failed.",
}
BACKUP_RESTORED = "The node knows invoices that this database lacks (an older backup?): it may have been paid already."
FEE_BUDGET_WORDS = {
    FeeBound.DAY: "Today's budget for routing fees is used up: no route to this wallet is free, or as cheap as what "
    "is left. There is a new one tomorrow (UTC).",
    FeeBound.DESTINATION: "Today's budget for routing fees to this wallet's node is used up: no route to it is free, "
    "or as cheap as what is left. There is a new one tomorrow (UTC).",
}
IN_FLIGHT_FOR_EVER = (
    "LND calls it in flight, though no HTLC of it can wait any more. It may have been paid: look at its HTLCs in the "
    "node's list of payments, at the chain, or ask who was to get it."
)
EXPIRED_UNSENT = "The invoice expired before the refund could be sent."


def next_step(facts: Facts, outcome: PaymentOutcome, now: datetime) -> Step:
    """Truth table: tests/unit/test_refund_decisions.py."""
    if facts.sends == 0:
        return _before_first_send(facts, outcome, now)
    if isinstance(outcome, Settled):
        if outcome.amount_msat != facts.amount_msat:
            return Freeze(f"LND paid {outcome.amount_msat} msat where {facts.amount_msat} were owed")
        return Paid(outcome.preimage, outcome.fee_msat)
    if isinstance(outcome, Failed):
        return _after_failure(facts, outcome, now)
    if isinstance(outcome, NotFound):
        return _when_not_found(facts, now)
    if isinstance(outcome, InFlight):
        return Freeze(IN_FLIGHT_FOR_EVER) if now >= facts.expires_at + NO_HTLC_LIVES_AFTER else Wait(True, "in flight")
    return Wait(False, outcome.why)


def _before_first_send(facts: Facts, outcome: PaymentOutcome, now: datetime) -> Step:
    """Every send is counted before it leaves: what LND knows of this hash now was not our doing."""
    if not facts.history_intact and not isinstance(outcome, Unknown):
        return Freeze(BACKUP_RESTORED)
    if isinstance(outcome, NotFound):
        return Send() if _can_send(facts, now) else GiveUp(EXPIRED_UNSENT, AddressAsked.SOON)
    if isinstance(outcome, Settled | Failed | InFlight):
        return GiveUp("This invoice was used on the gateway's node before.")
    return Wait(False, outcome.why)


def _after_failure(facts: Facts, outcome: Failed, now: datetime) -> Step:
    is_new = outcome.payment_index > facts.last_failed_index
    failed_sends = min(facts.sends, facts.failed_sends + is_new)
    if _may_retry(facts, outcome.reason, failed_sends) and _can_send(facts, now):
        if not is_new:
            return Send()
        pause = min(_pause(facts.sends), facts.expires_at - now)
        return SendLater(outcome.payment_index, pause, _give_up(facts, outcome.reason).reason)
    if failed_sends == facts.sends or now >= facts.expires_at + FINALLY_FAILED_AFTER:
        return _give_up(facts, outcome.reason)
    return Wait(True, "failed, but a send is unaccounted for until its invoice has expired")


def _may_retry(facts: Facts, reason: FailureReason, failed_sends: int) -> bool:
    """Until the invoice expires, as long as the node tells how each send ended."""
    bounded = facts.sends if facts.fee_bound is not None else facts.sends - failed_sends
    return reason in RETRYABLE and bounded < MAX_SENDS


def _pause(sends: int) -> timedelta:
    """2, 4, 8, 16, then 30 s; after twenty sends slowly longer, ten minutes at most."""
    seconds = 2**sends if sends < 5 else min(600, 30 * max(1, sends // 10))
    return timedelta(seconds=seconds)


def _give_up(facts: Facts, reason: FailureReason) -> GiveUp:
    if reason is FailureReason.NO_ROUTE and facts.fee_bound is not None:
        return GiveUp(FEE_BUDGET_WORDS[facts.fee_bound], AddressAsked.TOMORROW)
    return GiveUp(WORDS[reason])


def _when_not_found(facts: Facts, now: datetime) -> Step:
    if facts.update_seen or facts.failed_sends:
        return Freeze("LND knew this payment once and does not any more: its payment history was deleted")
    if not facts.history_intact:
        return Freeze("LND's payment history is not the one this refund was sent with (another node, or a backup)")
    if _can_send(facts, now) and facts.sends < MAX_SENDS:
        return Send()
    if now >= facts.expires_at + FINALLY_FAILED_AFTER:
        return GiveUp(EXPIRED_UNSENT, AddressAsked.SOON)
    return Wait(False, "no send of it was taken up; it is safe to give up only after its invoice has expired")


def may_join_flight(amount_sats: int, in_flight_sats: int, cap_sats: int) -> bool:
    """Whether one more send keeps within the cap on all that is in flight.

    What is larger than the cap goes beside what keeps within it, one at a time: alone, it could wait for ever.
    """
    return in_flight_sats + amount_sats <= cap_sats or (amount_sats > cap_sats >= in_flight_sats)


def _can_send(facts: Facts, now: datetime) -> bool:
    return now < facts.expires_at - EXPIRY_MARGIN
