"""A job in plain words: where it stands on its line of steps, what that means, and what it did to the money. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.api.models import JobView
from gateway.pages.language import gettext as _
from gateway.pages.language import ngettext, pgettext, sats

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
            return _("Your input is being looked at"), _("The price follows in a moment."), "busy"
        case "executing":
            came = _("The pool pays for it") if job.serve == "free" else _("Your payment arrived")
            text = _("%(came)s and the work is running. This page follows it; you need not reload.", came=came)
            return _("Working on it"), text, "busy"
        case "complete":
            return _complete(job)
        case "rejected":
            rest = _refund_text(job, _("What you paid above that"))
            return _("Your input was not taken"), _joined(_look_cost(job) or _("You pay nothing."), rest), "bad"
        case "failed":
            return _failed(job)
        case "expired":
            return _expired(job)


def _waiting_for_payment(job: JobView) -> tuple[str, str, Tone]:
    if job.invoice is None:
        text = _("Our Lightning node has not made your invoice yet. Nothing is to be paid until it is here.")
        return _("Your invoice is on its way"), text, "busy"
    amount = sats(job.invoice.amount_sats)
    if job.state == "awaiting_eval_payment":
        text = _(
            "Then you learn the price of the work, at most %(sats)s, and whether it can be done. "
            "This fee is kept for the answer, whatever it is; without one it is yours again.",
            sats=sats(job.estimate_sats),
        )
        return _("Pay %(sats)s to have your input looked at", sats=amount), text, "ask"
    headline = _("Pay %(sats)s to start", sats=amount)
    if job.serve == "partial":
        text = _(
            "The free pool adds %(sats)s, if it still can when your payment arrives; "
            "else nothing is done and all of yours comes back.",
            sats=sats(job.absorb_sats),
        )
        return headline, text, "ask"
    text = _("The work starts by itself once your payment arrives. What it does not use is yours again.")
    return headline, text, "ask"


def _complete(job: JobView) -> tuple[str, str, Tone]:
    cost = _("It cost you %(sats)s.", sats=sats(job.user_charge_sats or 0))
    return _done(job), _joined(cost, _refund_text(job, _("The rest"))), "good"


def _done(job: JobView) -> str:
    count, rest = job.refund_amount_sats, sats(job.refund_amount_sats)
    match job.refund_state:
        case "none":
            return _("Done")
        case "pending":
            return ngettext(
                "Done, and %(sats)s is yours to take back",
                "Done, and %(sats)s are yours to take back",
                count,
                sats=rest,
            )
        case "paying":
            return ngettext(
                "Done, and %(sats)s is on its way to you",
                "Done, and %(sats)s are on their way to you",
                count,
                sats=rest,
            )
    given = job.refund_donated_sats or 0
    if given and given == count:
        return ngettext(
            "Done, and %(sats)s went to the free pool, as you said",
            "Done, and %(sats)s went to the free pool, as you said",
            count,
            sats=rest,
        )
    if given:
        return _("Done, and %(sats)s went back to you, %(given)s of it to the free pool", sats=rest, given=sats(given))
    return ngettext("Done, and %(sats)s went back to you", "Done, and %(sats)s went back to you", count, sats=rest)


def _failed(job: JobView) -> tuple[str, str, Tone]:
    what = _("Your input was not looked at") if _look_outcome(job) == "failed" else _("The work failed")
    look = _look_cost(job)
    nothing = _("You pay nothing for the work.") if look else _("You pay nothing.")
    everything = _("Everything else that you paid") if look else _("Everything you paid")
    return what, _joined(nothing, look, _refund_text(job, everything)), "bad"


def _expired(job: JobView) -> tuple[str, str, Tone]:
    if job.refund_state == "none" or (_look_outcome(job) == "accepted" and not _paid_sats(job)):
        rest = _refund_text(job, _("What you paid above that"))
        ended = _("The invoice was cancelled, or ran out before it was paid; it can not be paid now.")
        text = _joined(ended, _look_cost(job) or _("Nothing was charged."), rest)
        return _("This job ended unpaid"), text, "quiet"
    late = _("Your payment came after the job had ended.")
    return _("Paid too late"), _joined(late, _refund_text(job, _("Everything you paid"))), "bad"


def _joined(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _look_outcome(job: JobView) -> str | None:
    return job.evaluation.outcome if job.evaluation else None


def _look_cost(job: JobView) -> str:
    """What was kept of the user's money for looking at the input; empty when nothing was."""
    charged = job.evaluation.charged_sats if job.evaluation else None
    return _("The look at your input cost you %(sats)s.", sats=sats(charged)) if charged else ""


def _refund_text(job: JobView, what: str) -> str:
    """`what`: the part of the money that is owed back, as the sentence begins."""
    rest = sats(job.refund_amount_sats)
    match job.refund_state:
        case "pending":
            return _("%(what)s, %(sats)s, waits for you here until you take it.", what=what, sats=rest)
        case "paying":
            return _("%(what)s, %(sats)s, is being sent to your wallet.", what=what, sats=rest)
        case "paid":
            return _went(what, rest, job.refund_donated_sats or 0, job.refund_amount_sats)
        case _:
            return _("Nothing is left over.") if job.state == "complete" else ""


def _went(what: str, rest: str, given_sats: int, refund_sats: int) -> str:
    """Of what is not owed any more: to its owner, or what was too little for that, to the pool."""
    if not given_sats:
        return _("%(what)s, %(sats)s, was sent to your wallet.", what=what, sats=rest)
    if given_sats == refund_sats:
        return _("%(what)s, %(sats)s, went to the free pool, as you said.", what=what, sats=rest)
    return _(
        "%(what)s, %(sats)s, was sent to your wallet, %(given)s of it to the free pool.",
        what=what,
        sats=rest,
        given=sats(given_sats),
    )


def _steps(job: JobView) -> tuple[Step, ...]:
    return (
        *_look_step(job),
        Step(_("Price"), "done", _("at most %(sats)s", sats=sats(job.estimate_sats))),
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
            return (Step(_("Look"), "done", _("taken")),)
        case "rejected":
            return (Step(_("Look"), "failed", _("not taken")),)
        case "failed":
            return (Step(_("Look"), "failed", _("no answer")),)
        case "evaluating":
            return (Step(_("Look"), "current", _("running")),)
        case "expired":
            return (Step(_("Look"), "failed", _("not paid")),)
        case _:
            return (Step(_("Look"), "current", _("costs %(sats)s", sats=sats(job.evaluation.fee_sats))),)


def _pay_step(job: JobView) -> Step:
    if job.evaluation is not None and job.evaluation.outcome != "accepted":
        ended = job.state in ("rejected", "failed", "expired")
        return Step(_("Pay"), "skipped", _("not asked for")) if ended else Step(_("Pay"), "todo", "")
    if job.state == "awaiting_work_payment":
        return Step(_("Pay"), "current", _("waiting"))
    if job.state == "expired" and not _paid_sats(job):
        return Step(_("Pay"), "failed", _("not paid"))
    paid = _paid_sats(job)
    return Step(_("Pay"), "done", _("%(sats)s paid", sats=sats(paid)) if paid else _("paid by the pool"))


def _work_step(job: JobView) -> Step:
    match job.state:
        case "executing":
            return Step(_("Work"), "current", _("running"))
        case "complete":
            return Step(_("Work"), "done", _("cost %(sats)s", sats=sats(job.actual_cost_sats or 0)))
        case "failed" if _look_outcome(job) != "failed":
            return Step(_("Work"), "failed", _("failed"))
        case "expired" | "rejected" | "failed":
            return Step(_("Work"), "skipped", _("never started"))
        case _:
            return Step(_("Work"), "todo", "")


def _result_step(job: JobView) -> Step:
    if job.state == "complete":
        return Step(_("Result"), "done", _("ready"))
    if job.state in ("failed", "rejected", "expired"):
        return Step(_("Result"), "skipped", _("none"))
    return Step(_("Result"), "todo", "")


def _refund_step(job: JobView) -> Step:
    rest = sats(job.refund_amount_sats)
    match job.refund_state:
        case "pending":
            return Step(pgettext("step", "Refund"), "current", _("%(sats)s for you", sats=rest))
        case "paying":
            return Step(pgettext("step", "Refund"), "current", _("sending"))
        case "paid":
            given = job.refund_donated_sats == job.refund_amount_sats
            note = _("%(sats)s given", sats=rest) if given else _("%(sats)s sent", sats=rest)
            return Step(pgettext("step", "Refund"), "done", note)
    ended = job.state in ("complete", "failed", "rejected", "expired")
    return (
        Step(pgettext("step", "Refund"), "skipped", _("nothing owed"))
        if ended
        else Step(pgettext("step", "Refund"), "todo", "")
    )


def _receipt(job: JobView) -> tuple[Line, ...]:
    """What you paid, what it cost you, what came or comes back."""
    look = job.evaluation
    if not _paid_sats(job) and not job.absorbed_sats and not (look and look.outcome):
        return ()
    lines = []
    if look is not None and look.charged_sats:
        lines.append(Line(_("The look at your input cost you"), look.charged_sats))
    if look is not None and look.absorbed_sats:
        lines.append(Line(_("The look at your input, paid by the pool"), look.absorbed_sats))
    if _paid_sats(job):
        lines.append(
            Line(_("You paid for the work") if _look_outcome(job) == "accepted" else _("You paid"), _paid_sats(job))
        )
    if job.absorbed_sats:
        lines.append(Line(_("Paid by the pool"), job.absorbed_sats))
    if job.user_charge_sats is not None:
        lines.append(Line(_("The work cost you"), job.user_charge_sats))
    back = {"pending": _("Yours to take back"), "paying": _("On its way back to you"), "paid": _("Sent back to you")}
    given = job.refund_donated_sats or 0
    if job.refund_state == "paid" and given:
        lines.append(Line(_("Given to the free pool"), given))
    back_sats = job.refund_amount_sats - (given if job.refund_state == "paid" else 0)
    if job.refund_state != "none" and back_sats:
        lines.append(Line(back[job.refund_state], back_sats, strong=True))
    return tuple(lines)
