"""What happens to a session and to its money, as pure functions. The transactions apply what these return.

Rules: ARCHITECTURE.md, "Sessions". Amounts in sats unless the name says msat. Truth tables:
tests/unit/test_session_decisions.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from ledger.free_tier import Decision, Serve
from ledger.money import Rest, rest_of


class SessionState(StrEnum):
    AWAITING_DEPOSIT = "awaiting_deposit"
    ACTIVE = "active"
    CLOSING = "closing"
    CLOSED = "closed"
    EXPIRED = "expired"


ENDED = frozenset({SessionState.CLOSED, SessionState.EXPIRED})


class Entry(StrEnum):
    """The kinds of lines of a statement."""

    DEPOSIT = "deposit"
    TOPUP = "topup"
    REQUEST = "request"
    REFUND = "refund"
    SUB_SAT = "sub_sat"


# --- a deposit or top-up settled ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Credit:
    """What was paid can be spent (or joins the rest of a session that is closing)."""

    activates: bool


OnSettlement: TypeAlias = Credit | Rest


def on_settlement(state: SessionState, paid_msat: int) -> OnSettlement:
    """A settled invoice is always honoured; an ended session never reopens: what settles there is owed back in full."""
    if state in ENDED:
        return rest_of(paid_msat)
    return Credit(activates=state is SessionState.AWAITING_DEPOSIT)


# --- a request begins --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hold:
    """The request may run once this much of the balance is set aside; 0 when the pool pays all."""

    sats: int


@dataclass(frozen=True, slots=True)
class Missing:
    """The balance does not cover the full estimate."""

    sats: int


def on_request(decision: Decision, estimate_sats: int, balance_sats: int) -> Hold | Missing:
    """A partial grant is only advice until the work is done: the balance must cover the *full* estimate."""
    if decision.serve is Serve.FREE:
        return Hold(0)
    if balance_sats < estimate_sats:
        return Missing(estimate_sats - balance_sats)
    return Hold(estimate_sats)


def lowest_cap(*caps_sats: int | None) -> int | None:
    """Of what the body and the header allow, the less; None: no cap was given."""
    return min((cap for cap in caps_sats if cap is not None), default=None)


# --- a request ended ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cost:
    """`grant_wanted_sats`: the most that the pool may pay of it."""

    actual_sats: int
    overrun_sats: int
    grant_wanted_sats: int


def on_work_done(*, estimate_sats: int, absorb_sats: int, metered_sats: int) -> Cost:
    """The actual cost is capped at the estimate, what exceeds it is the operator's. The pool pays min(actual, absorb)
    at most: of a free request exactly that (it is reserved), of a partial one whatever it still has."""
    actual = min(metered_sats, estimate_sats)
    return Cost(actual, metered_sats - actual, min(actual, absorb_sats))
