"""What happens to a job and to its money, as pure functions. The transactions apply what these return.

Rules: ARCHITECTURE.md, "Money rules" and "States". Amounts in sats unless the name says msat.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from ledger.money import Msat, Rest, rest_of, sats_to_msat, sub_sat_rest, whole_sats


class JobState(StrEnum):
    AWAITING_EVAL_PAYMENT = "awaiting_eval_payment"
    EVALUATING = "evaluating"
    AWAITING_WORK_PAYMENT = "awaiting_work_payment"
    EXECUTING = "executing"
    COMPLETE = "complete"
    FAILED = "failed"
    REJECTED = "rejected"
    EXPIRED = "expired"


class RefundState(StrEnum):
    NONE = "none"
    PENDING = "pending"
    PAYING = "paying"
    PAID = "paid"


class Stage(StrEnum):
    """What a task of a job runs; the value names its kind in the queue."""

    EVALUATION = "eval"
    WORK = "job"


class Purpose(StrEnum):
    """What an invoice of a job is for."""

    EVALUATION = "evaluation"
    WORK = "work"


# --- an invoice of the job settled -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin:
    """The price is paid and the work runs, or the fee is paid and the input is looked at."""

    stage: Stage


DRAINED = "The free pool could not pay its part any more when your payment arrived. Nothing was charged for the work."


OnSettlement: TypeAlias = Begin | Rest
"""Rest: paid when no work is to be had for it (late, or a second time); all of it is owed back, the state stays."""


def on_settlement(purpose: Purpose, state: JobState, amount_msat: int, paid_msat: int) -> OnSettlement:
    """A settled invoice is always honoured: what it paid for begins, or a refund is owed. Ended jobs never reopen."""
    if paid_msat >= amount_msat:
        match purpose, state:
            case Purpose.WORK, JobState.AWAITING_WORK_PAYMENT:
                return Begin(Stage.WORK)
            case Purpose.EVALUATION, JobState.AWAITING_EVAL_PAYMENT:
                return Begin(Stage.EVALUATION)
    return rest_of(paid_msat)


# --- the evaluation ended ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EvaluationFee:
    """What becomes of the fee; the rest of what was paid for it is owed back."""

    charged_sats: int
    absorbed_sats: int
    refund_sats: int
    sub_sat_msat: Msat


def on_evaluated(*, fee_sats: int, granted: bool, paid_msat: int) -> EvaluationFee:
    """The evaluator answered, whatever it said: the fee is kept, from the pool's grant or from what was paid."""
    charged = 0 if granted else fee_sats
    rest_msat = paid_msat - sats_to_msat(charged)
    if rest_msat < 0:
        raise ValueError("an evaluation was begun that was not paid for")
    return EvaluationFee(charged, fee_sats - charged, whole_sats(rest_msat), sub_sat_rest(rest_msat))


# --- the work ended ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Completion:
    actual_cost_sats: int
    absorbed_sats: int
    user_charge_sats: int
    refund_sats: int
    sub_sat_msat: Msat
    overrun_sats: int


def on_work_done(*, estimate_sats: int, reserved_sats: int, paid_msat: int, metered_sats: int) -> Completion:
    """The work succeeded at a metered cost.

    The actual cost is capped at the estimate, what exceeds it is the operator's overrun.
    absorbed = min(actual, reserved); user charge = max(0, actual - absorbed), and never more than was paid;
    refund = paid - user charge, in whole sats.
    """
    actual = min(metered_sats, estimate_sats)
    absorbed = min(actual, reserved_sats)
    charge = min(max(0, actual - absorbed), whole_sats(paid_msat))
    rest_msat = paid_msat - sats_to_msat(charge)
    return Completion(
        actual_cost_sats=actual,
        absorbed_sats=absorbed,
        user_charge_sats=charge,
        refund_sats=whole_sats(rest_msat),
        sub_sat_msat=sub_sat_rest(rest_msat),
        overrun_sats=metered_sats - actual,
    )


# --- what a job says of its refunds ------------------------------------------------------------------------

DONATED = "donated"
"""A refund that its owner gave to the pool: nothing is owed any more, as with one that was paid."""


def wire_state(stored: str) -> RefundState:
    """Of one refund, as a job's summary reads it."""
    return RefundState.PAID if stored == DONATED else RefundState(stored)


def refund_summary(refunds: Iterable[tuple[RefundState, int]]) -> tuple[RefundState, int]:
    """`(refundState, refundAmountSats)`: the open sum, or the total once nothing is owed; paying > pending > paid."""
    known = list(refunds)
    states = {state for state, _ in known}
    for state in (RefundState.PAYING, RefundState.PENDING):
        if state in states:
            return state, sum(amount for s, amount in known if s is not RefundState.PAID)
    if RefundState.PAID in states:
        return RefundState.PAID, sum(amount for _, amount in known)
    return RefundState.NONE, 0
