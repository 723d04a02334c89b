"""Truth table of a refund attempt's next step: the look-up decides, never a guess."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.refunds.decisions import (
    EXPIRED_UNSENT,
    MAX_SENDS,
    AddressAsked,
    Facts,
    Freeze,
    GiveUp,
    Paid,
    Send,
    SendLater,
    Step,
    Wait,
    next_step,
)
from gateway.refunds.fees import FeeBound
from ledger.money import Msat
from lightning.types import Failed, FailureReason, InFlight, NotFound, PaymentOutcome, Settled, Unknown

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER, JUST_EXPIRED, LONG_EXPIRED = (
    NOW + timedelta(hours=1),
    NOW - timedelta(seconds=5),
    NOW - timedelta(seconds=61),
)
HTLCS_ALIVE, HTLCS_GONE = NOW - timedelta(days=27, hours=23), NOW - timedelta(days=28)
PREIMAGE = bytes(32)
SETTLED = Settled(PREIMAGE, Msat(5000), Msat(17), payment_index=9)
NO_ROUTE = Failed(FailureReason.NO_ROUTE, payment_index=9)
REFUSED = Failed(FailureReason.INCORRECT_PAYMENT_DETAILS, payment_index=9)
UNKNOWN = Unknown("UNAVAILABLE")

NEVER_SENT = Facts(
    amount_msat=5000,
    expires_at=LATER,
    sends=0,
    failed_sends=0,
    last_failed_index=0,
    update_seen=False,
    history_intact=True,
)
SENT = replace(NEVER_SENT, sends=1)
FAILED_ONCE = replace(SENT, failed_sends=1, last_failed_index=9, update_seen=True)


@pytest.mark.parametrize(
    ("facts", "outcome", "kind"),
    [
        # before the first send: only NOT_FOUND lets it leave
        (NEVER_SENT, NotFound(), Send),
        (replace(NEVER_SENT, expires_at=JUST_EXPIRED), NotFound(), GiveUp),
        (NEVER_SENT, SETTLED, GiveUp),
        (NEVER_SENT, NO_ROUTE, GiveUp),
        (NEVER_SENT, InFlight(), GiveUp),
        (NEVER_SENT, UNKNOWN, Wait),
        # an older backup was restored: nothing leaves, and the debt is not freed for another invoice either
        (replace(NEVER_SENT, history_intact=False), NotFound(), Freeze),
        (replace(NEVER_SENT, history_intact=False), SETTLED, Freeze),
        (replace(NEVER_SENT, history_intact=False), NO_ROUTE, Freeze),
        (replace(NEVER_SENT, history_intact=False), UNKNOWN, Wait),
        # sent: LND's word
        (SENT, SETTLED, Paid),
        (SENT, replace(SETTLED, amount_msat=Msat(4000)), Freeze),
        (SENT, InFlight(), Wait),
        (SENT, UNKNOWN, Wait),
        # no HTLC of it can be alive: LND lost it in a crash, and the operator says what became of it
        (replace(SENT, expires_at=HTLCS_ALIVE), InFlight(), Wait),
        (replace(SENT, expires_at=HTLCS_GONE), InFlight(), Freeze),
        (replace(SENT, expires_at=HTLCS_GONE), UNKNOWN, Wait),
        # NOT_FOUND after a send
        (SENT, NotFound(), Send),
        (replace(SENT, history_intact=False), NotFound(), Freeze),
        (replace(SENT, update_seen=True), NotFound(), Freeze),
        (replace(SENT, failed_sends=1), NotFound(), Freeze),
        (replace(SENT, sends=MAX_SENDS - 1), NotFound(), Send),
        (replace(SENT, sends=MAX_SENDS), NotFound(), Wait),
        (replace(SENT, sends=MAX_SENDS, expires_at=LONG_EXPIRED), NotFound(), GiveUp),
        (replace(SENT, expires_at=JUST_EXPIRED), NotFound(), Wait),
        (replace(SENT, expires_at=LONG_EXPIRED), NotFound(), GiveUp),
        (replace(SENT, expires_at=LONG_EXPIRED, history_intact=False), NotFound(), Freeze),
        # FAILED that accounts for all sends
        (SENT, REFUSED, GiveUp),
        (SENT, NO_ROUTE, SendLater),
        (replace(SENT, expires_at=JUST_EXPIRED), NO_ROUTE, GiveUp),
        (replace(SENT, sends=50, failed_sends=49), NO_ROUTE, SendLater),
        (replace(SENT, sends=50, failed_sends=50, last_failed_index=9), NO_ROUTE, Send),
        (replace(SENT, sends=50, failed_sends=49, expires_at=JUST_EXPIRED), NO_ROUTE, GiveUp),
        # with less than the usual fee limit, no more than a few
        (replace(SENT, sends=MAX_SENDS, failed_sends=MAX_SENDS - 1, fee_bound=FeeBound.DAY), NO_ROUTE, GiveUp),
        (replace(SENT, sends=MAX_SENDS - 1, failed_sends=2, fee_bound=FeeBound.DAY), NO_ROUTE, SendLater),
        (FAILED_ONCE, NO_ROUTE, Send),
        (replace(FAILED_ONCE, expires_at=JUST_EXPIRED), NO_ROUTE, GiveUp),
        # a send is unaccounted for: LND shows the old failure, or fewer failures than sends
        (replace(FAILED_ONCE, sends=2), REFUSED, Wait),
        (replace(SENT, sends=2), REFUSED, Wait),
        (replace(SENT, sends=2, expires_at=JUST_EXPIRED), NO_ROUTE, Wait),
        (replace(SENT, sends=2, expires_at=LONG_EXPIRED), NO_ROUTE, GiveUp),
        (replace(FAILED_ONCE, sends=MAX_SENDS), NO_ROUTE, Send),
        (replace(FAILED_ONCE, sends=MAX_SENDS + 1), NO_ROUTE, Wait),
    ],
)
def test_next_step(facts: Facts, outcome: PaymentOutcome, kind: type[Step]) -> None:
    assert isinstance(next_step(facts, outcome, NOW), kind)


@pytest.mark.parametrize(
    "facts", [replace(NEVER_SENT, expires_at=JUST_EXPIRED), replace(SENT, expires_at=LONG_EXPIRED)]
)
def test_an_address_to_which_nothing_was_sent_is_asked_again_soon(facts: Facts) -> None:
    assert next_step(facts, NotFound(), NOW) == GiveUp(EXPIRED_UNSENT, AddressAsked.SOON)


def test_paid_carries_the_proof_and_the_fee() -> None:
    assert next_step(SENT, SETTLED, NOW) == Paid(PREIMAGE, 17)


def test_a_retry_pauses_longer_each_time_but_never_beyond_the_expiry() -> None:
    def pause_s(sends: int, expires_at: datetime = NOW + timedelta(days=1)) -> float:
        facts = replace(SENT, sends=sends, failed_sends=sends - 1, expires_at=expires_at)
        step = next_step(facts, NO_ROUTE, NOW)
        assert isinstance(step, SendLater)
        return step.delay.total_seconds()

    assert [pause_s(sends) for sends in (1, 2, 3, 4, 5, 19, 20, 100, 5000)] == [2, 4, 8, 16, 30, 30, 60, 300, 600]
    assert pause_s(5000, NOW + timedelta(seconds=25)) == 25


def test_a_wait_in_flight_is_remembered_as_seen() -> None:
    step = next_step(SENT, InFlight(), NOW)
    assert isinstance(step, Wait)
    assert step.update_seen


OUTCOMES = st.one_of(
    st.just(SETTLED),
    st.builds(Failed, st.sampled_from(FailureReason), payment_index=st.integers(1, 20)),
    st.just(InFlight()),
    st.just(NotFound()),
    st.builds(Unknown, st.text(max_size=5)),
)
FACTS = st.integers(0, 5).flatmap(
    lambda sends: st.builds(
        Facts,
        amount_msat=st.just(5000),
        expires_at=st.timedeltas(timedelta(hours=-1), timedelta(hours=1)).map(lambda delta: NOW + delta),
        sends=st.just(sends),
        failed_sends=st.integers(0, sends),
        last_failed_index=st.integers(0, 20),
        update_seen=st.booleans(),
        history_intact=st.booleans(),
    )
)


@given(FACTS, OUTCOMES)
def test_unknown_and_in_flight_never_free_the_debt(facts: Facts, outcome: PaymentOutcome) -> None:
    """Whatever is stored: after a send, only LND's terminal word or a passed expiry ends an attempt."""
    step = next_step(facts, outcome, NOW)
    if facts.sends and isinstance(outcome, Unknown | InFlight):
        assert isinstance(step, Wait)
    if isinstance(step, Paid):
        assert isinstance(outcome, Settled)
        assert facts.sends
        assert hashlib.sha256(step.preimage).digest() == hashlib.sha256(PREIMAGE).digest()
    if isinstance(step, Send | SendLater):
        assert facts.expires_at > NOW
        assert not isinstance(outcome, Settled | InFlight | Unknown)


@given(FACTS, OUTCOMES)
def test_an_attempt_is_given_up_only_when_no_send_can_still_arrive(facts: Facts, outcome: PaymentOutcome) -> None:
    step = next_step(facts, outcome, NOW)
    if isinstance(step, GiveUp) and facts.sends:
        accounted = isinstance(outcome, Failed) and (
            facts.failed_sends + (outcome.payment_index > facts.last_failed_index) >= facts.sends
        )
        assert accounted or facts.expires_at + timedelta(seconds=60) <= NOW
