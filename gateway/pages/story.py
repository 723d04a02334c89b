"""A job in plain words: where it stands on its line of steps, what that means, and what it did to the money. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.api.models import JobView
from gateway.pages.rendering import sats

StepState = Literal["done", "current", "todo", "failed", "skipped"]
Tone = Literal["ask", "busy", "good", "bad", "quiet"]


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    state: StepState
    note: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the receipt."""

    label: str
    amount_sats: int
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Story:
    headline: str
    text: str
    tone: Tone
    steps: tuple[Step, ...]
    receipt: tuple[Line, ...]
    moving: bool
    """Something will change by itself: the page without JavaScript reloads."""


def story(job: JobView) -> Story:
    headline, text, tone = _words(job)
    moving = job.state in ("awaiting_eval_payment", "evaluating", "awaiting_work_payment", "executing")
    return Story(headline, text, tone, _steps(job), _receipt(job), moving or job.refund_state == "paying")


def _words(job: JobView) -> tuple[str, str, Tone]:
    match job.state:
        case "awaiting_eval_payment" | "awaiting_work_payment":
            return _waiting_for_payment(job)
        case "evaluating":
            return "Your input is being looked at", "The price follows in a moment.", "busy"
        case "executing":
            came = "The pool pays for it" if job.serve == "free" else "Your payment arrived"
            text = f"{came} and the work is running. This page follows it; you need not reload."
            return "Working on it", text, "busy"
        case "complete":
            return _complete(job)
        case "rejected":
            rest = _refund_text(job, "What you paid above that")
            return "Your input was not taken", f"{_look_cost(job) or 'You pay nothing.'} {rest}".strip(), "bad"
        case "failed":
            what = "Your input was not looked at" if _look_outcome(job) == "failed" else "The work failed"
            look = _look_cost(job)
            nothing = f"You pay nothing for the work. {look}" if look else "You pay nothing."
            everything = "Everything else that you paid" if look else "Everything you paid"
            return what, f"{nothing} {_refund_text(job, everything)}".strip(), "bad"
        case "expired":
            return _expired(job)


def _waiting_for_payment(job: JobView) -> tuple[str, str, Tone]:
    if job.invoice is None:
        text = "Our Lightning node has not made your invoice yet. Nothing is to be paid until it is here."
        return "Your invoice is on its way", text, "busy"
    if job.state == "awaiting_eval_payment":
        text = f"Then you learn the price of the work, at most {sats(job.estimate_sats)}, and whether it can be done. "
        kept = "This fee is kept for the answer, whatever it is; without one it is yours again."
        return f"Pay {sats(job.invoice.amount_sats)} to have your input looked at", text + kept, "ask"
    headline = f"Pay {sats(job.invoice.amount_sats)} to start"
    if job.serve == "partial":
        part = f"The free pool adds {sats(job.absorb_sats)}, if it still can when your payment arrives;"
        return headline, f"{part} else nothing is done and all of yours comes back.", "ask"
    return headline, "The work starts by itself once your payment arrives. What it does not use is yours again.", "ask"


def _complete(job: JobView) -> tuple[str, str, Tone]:
    cost = f"It cost you {sats(job.user_charge_sats or 0)}."
    headline = {
        "none": "Done",
        "pending": f"Done, and {sats(job.refund_amount_sats)} are yours to take back",
        "paying": f"Done, and {sats(job.refund_amount_sats)} are on their way to you",
        "paid": f"Done, and {sats(job.refund_amount_sats)} {_where_it_went(job)}",
    }[job.refund_state]
    return headline.replace("1 sat are", "1 sat is"), f"{cost} {_refund_text(job, 'The rest')}".strip(), "good"


def _expired(job: JobView) -> tuple[str, str, Tone]:
    if job.refund_state == "none" or (_look_outcome(job) == "accepted" and not _paid_sats(job)):
        nothing = f"{_look_cost(job) or 'Nothing was charged.'} {_refund_text(job, 'What you paid above that')}"
        text = f"The invoice was cancelled, or ran out before it was paid; it can not be paid now. {nothing}".strip()
        return "This job ended unpaid", text, "quiet"
    text = f"Your payment came after the job had ended. {_refund_text(job, 'Everything you paid')}"
    return "Paid too late", text, "bad"


def _look_outcome(job: JobView) -> str | None:
    return job.evaluation.outcome if job.evaluation else None


def _look_cost(job: JobView) -> str:
    """What was kept of the user's money for looking at the input; empty when nothing was."""
    charged = job.evaluation.charged_sats if job.evaluation else None
    return f"The look at your input cost you {sats(charged)}." if charged else ""


def _refund_text(job: JobView, what: str) -> str:
    match job.refund_state:
        case "pending":
            return f"{what}, {sats(job.refund_amount_sats)}, waits for you here until you take it."
        case "paying":
            return f"{what}, {sats(job.refund_amount_sats)}, is being sent to your wallet."
        case "paid":
            return f"{what}, {sats(job.refund_amount_sats)}, {_where_it_went(job, 'was sent to your wallet')}."
        case _:
            return "Nothing is left over." if job.state == "complete" else ""


def _where_it_went(job: JobView, to_you: str = "went back to you") -> str:
    """Of what is not owed any more: to its owner, or what was too little for that, to the pool."""
    given = job.refund_donated_sats or 0
    if not given:
        return to_you
    if given == job.refund_amount_sats:
        return "went to the free pool, as you said"
    return f"{to_you}, {sats(given)} of it to the free pool"


def _steps(job: JobView) -> tuple[Step, ...]:
    return (
        *_look_step(job),
        Step("Price", "done", f"at most {sats(job.estimate_sats)}"),
        _pay_step(job),
        _work_step(job),
        _result_step(job),
        _refund_step(job),
    )


def _paid_sats(job: JobView) -> int:
    return (job.invoice.amount_paid_sats if job.invoice else None) or 0


def _look_step(job: JobView) -> tuple[Step, ...]:
    """For a work whose inputs are looked at before their price is fixed."""
    if job.evaluation is None:
        return ()
    match job.evaluation.outcome or job.state:
        case "accepted":
            return (Step("Look", "done", "taken"),)
        case "rejected":
            return (Step("Look", "failed", "not taken"),)
        case "failed":
            return (Step("Look", "failed", "no answer"),)
        case "evaluating":
            return (Step("Look", "current", "running"),)
        case "expired":
            return (Step("Look", "failed", "not paid"),)
        case _:
            return (Step("Look", "current", f"costs {sats(job.evaluation.fee_sats)}"),)


def _pay_step(job: JobView) -> Step:
    if job.evaluation is not None and job.evaluation.outcome != "accepted":
        ended = job.state in ("rejected", "failed", "expired")
        return Step("Pay", "skipped", "not asked for") if ended else Step("Pay", "todo", "")
    if job.state == "awaiting_work_payment":
        return Step("Pay", "current", "waiting")
    if job.state == "expired" and not _paid_sats(job):
        return Step("Pay", "failed", "not paid")
    paid = _paid_sats(job)
    return Step("Pay", "done", f"{sats(paid)} paid" if paid else "paid by the pool")


def _work_step(job: JobView) -> Step:
    match job.state:
        case "executing":
            return Step("Work", "current", "running")
        case "complete":
            return Step("Work", "done", f"cost {sats(job.actual_cost_sats or 0)}")
        case "failed" if _look_outcome(job) != "failed":
            return Step("Work", "failed", job.state)
        case "expired" | "rejected" | "failed":
            return Step("Work", "skipped", "never started")
        case _:
            return Step("Work", "todo", "")


def _result_step(job: JobView) -> Step:
    if job.state == "complete":
        return Step("Result", "done", "ready")
    if job.state in ("failed", "rejected", "expired"):
        return Step("Result", "skipped", "none")
    return Step("Result", "todo", "")


def _refund_step(job: JobView) -> Step:
    match job.refund_state:
        case "pending":
            return Step("Refund", "current", f"{sats(job.refund_amount_sats)} for you")
        case "paying":
            return Step("Refund", "current", "sending")
        case "paid":
            given = job.refund_donated_sats == job.refund_amount_sats
            return Step("Refund", "done", f"{sats(job.refund_amount_sats)} {'given' if given else 'sent'}")
    ended = job.state in ("complete", "failed", "rejected", "expired")
    return Step("Refund", "skipped", "nothing owed") if ended else Step("Refund", "todo", "")


def _receipt(job: JobView) -> tuple[Line, ...]:
    """What you paid, what it cost you, what came or comes back."""
    look = job.evaluation
    if not _paid_sats(job) and not job.absorbed_sats and not (look and look.outcome):
        return ()
    lines = []
    if look is not None and look.charged_sats:
        lines.append(Line("The look at your input cost you", look.charged_sats))
    if look is not None and look.absorbed_sats:
        lines.append(Line("The look at your input, paid by the pool", look.absorbed_sats))
    if _paid_sats(job):
        lines.append(Line("You paid for the work" if _look_outcome(job) == "accepted" else "You paid", _paid_sats(job)))
    if job.absorbed_sats:
        lines.append(Line("Paid by the pool", job.absorbed_sats))
    if job.user_charge_sats is not None:
        lines.append(Line("The work cost you", job.user_charge_sats))
    back = {"pending": "Yours to take back", "paying": "On its way back to you", "paid": "Sent back to you"}
    given = job.refund_donated_sats or 0
    if job.refund_state == "paid" and given:
        lines.append(Line("Given to the free pool", given))
    back_sats = job.refund_amount_sats - (given if job.refund_state == "paid" else 0)
    if job.refund_state != "none" and back_sats:
        lines.append(Line(back[job.refund_state], back_sats, strong=True))
    return tuple(lines)
