"""Where a session stands, in words for its owner: what to do now, and where the sats are. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gateway import problems as p
from gateway.api.models import SessionView
from gateway.pages.details import N_
from gateway.pages.language import gettext as _
from gateway.pages.language import ngettext, sats
from gateway.pages.words import Words, words_for
from gateway.problems import Problem

BALANCE_IS_SAFE = N_(
    "Nothing is lost. What you paid in stays yours, and a payment that is under way is added as soon as we are back."
)


@dataclass(frozen=True, slots=True)
class Story:
    """`moving`: it changes by itself, without the reader."""

    headline: str
    text: str
    tone: str
    moving: bool


def story_of(session: SessionView, *, ever_paid: bool) -> Story:
    match session.state:
        case "awaiting_deposit":
            text = _("Pay once, then use it bit by bit. What you do not use comes back.")
            return Story(_("Pay in %(sats)s", sats=sats(session.deposit_sats)), text, "ask", moving=True)
        case "active":
            headline = _("%(sats)s to spend", sats=sats(session.balance_sats))
            return Story(headline, _while_active(session.held_sats), "good", moving=True)
        case "closing":
            text = _("What runs now is finished first. Then the rest is yours.")
            return Story(_("Closing"), text, "busy", moving=True)
        case "closed" | "expired" if session.refund_state != "none" and not session.balance_sats:
            return _of_the_rest(session)
    if session.balance_sats:
        text = _("Nobody used it for a long time. What is left is yours: close it, and say where it goes.")
        return Story(_yours(session.balance_sats), text, "ask", moving=False)
    if session.state == "expired" and not ever_paid:
        text = _("The invoice is over, and nothing was taken. Open a new balance.")
        return Story(_("Never paid"), text, "", moving=False)
    return Story(_("Closed"), _("Everything was used. There is nothing to give back."), "good", moving=False)


def _while_active(held_sats: int) -> str:
    if not held_sats:
        return _("Each request holds the most that it may cost, and is charged what it really cost.")
    return ngettext(
        "%(sats)s is held for what runs now; what it does not cost comes back.",
        "%(sats)s are held for what runs now; what it does not cost comes back.",
        held_sats,
        sats=sats(held_sats),
    )


def _of_the_rest(session: SessionView) -> Story:
    """Of a session that has ended and owed something back."""
    count, rest = session.refund_amount_sats, sats(session.refund_amount_sats)
    if session.refund_state == "pending" and session.refund_to and not session.refund_problem:
        headline = ngettext("%(sats)s goes back to you", "%(sats)s go back to you", count, sats=rest)
        return Story(headline, _("The payment leaves in a moment."), "busy", moving=True)
    if session.refund_state == "pending":
        text = _("Say where to send it. There is no hurry: it waits here, however long that is.")
        return Story(_yours(count), text, "ask", moving=True)
    if session.refund_state == "paying":
        headline = ngettext("%(sats)s is on its way", "%(sats)s are on their way", count, sats=rest)
        text = _("Until the payment arrives it stays on our books as yours; it is never sent twice.")
        return Story(headline, text, "busy", moving=True)
    headline = ngettext("%(sats)s went back to you", "%(sats)s went back to you", count, sats=rest)
    return Story(headline, _("This balance is closed, to the last sat."), "good", moving=False)


def _yours(count: int) -> str:
    return ngettext("%(sats)s is yours", "%(sats)s are yours", count, sats=sats(count))


# --- refusals ----------------------------------------------------------------------------------------------

_WORDS: dict[str, Words] = {
    p.NODE_UNAVAILABLE.code: Words(N_("Try again in a moment."), BALANCE_IS_SAFE),
    p.DATABASE_UNAVAILABLE.code: Words(N_("Try again in a moment."), BALANCE_IS_SAFE),
    p.NOT_READY.code: Words(N_("Try again in a moment."), BALANCE_IS_SAFE),
    p.IDEMPOTENCY_KEY_IN_USE.code: Words(
        N_("You sent this form already, and it is being worked on. Wait a moment, then look again."),
        N_("However often you send it, it counts once."),
    ),
    p.WORK_FAILED.code: Words("", N_("Nothing was charged: what was held for it can be spent again.")),
    p.INTERNAL.code: Words(
        N_("Something went wrong on our side; it was logged."),
        N_("Your balance is what the statement says; nothing is charged twice."),
    ),
    p.SESSION_NOT_FOUND.code: Words(N_("Check the address: every letter counts, also capital ones."), ""),
}


def words_of(problem: Problem) -> Words:
    """What a refusal means to the owner of a balance: other than to the buyer of a job, where the money differs."""
    if problem.type is p.BALANCE_TOO_LOW:
        return _missing(problem)
    known, other = _WORDS.get(problem.type.code, Words("", "")), words_for(problem)
    return Words(_(known.what) or other.what, _(known.money) or other.money, _(known.title) or other.title)


def _missing(problem: Problem) -> Words:
    """402: how much is missing, and whether there is an invoice for it."""
    cost, there, missing = (int(problem.extra[name]) for name in ("estimateSats", "balanceSats", "missingSats"))
    what = _(
        "It may cost %(cost)s, and you have %(there)s: %(missing)s more, and it can run.",
        cost=sats(cost),
        there=sats(there),
        missing=sats(missing),
    )
    invoiced = "invoice" in problem.extra
    then = _("Pay the invoice, then run it again.") if invoiced else _("Top up, then run it again.")
    return Words(f"{what} {then}", _("Nothing was charged."), _("Not enough to spend"))


def one_line_of(problem: Problem) -> str:
    """For an error that is shown in place, beside its form."""
    words = words_of(problem)
    return " ".join(part for part in (f"{words.title}.", words.what, words.money) if part)
