"""Where a session stands, in words for its owner: what to do now, and where the sats are. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gateway import problems as p
from gateway.api.models import SessionView
from gateway.pages.rendering import sats
from gateway.pages.words import Words, words_for
from gateway.problems import Problem

BALANCE_IS_SAFE = (
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
            text = "Pay once, then use it bit by bit. What you do not use comes back."
            return Story(f"Pay in {sats(session.deposit_sats)}", text, "ask", moving=True)
        case "active":
            text = "Each request holds the most that it may cost, and is charged what it really cost."
            if session.held_sats:
                held = _with_verb(session.held_sats, "is", "are")
                text = f"{held} held for what runs now; what it does not cost comes back."
            return Story(f"{sats(session.balance_sats)} to spend", text, "good", moving=True)
        case "closing":
            return Story("Closing", "What runs now is finished first. Then the rest is yours.", "busy", moving=True)
        case "closed" | "expired" if session.refund_state != "none" and not session.balance_sats:
            return _of_the_rest(session)
    if session.balance_sats:
        text = "Nobody used it for a long time. What is left is yours: close it, and say where it goes."
        return Story(f"{_with_verb(session.balance_sats, 'is', 'are')} yours", text, "ask", moving=False)
    if session.state == "expired" and not ever_paid:
        return Story("Never paid", "The invoice is over, and nothing was taken. Open a new balance.", "", moving=False)
    return Story("Closed", "Everything was used. There is nothing to give back.", "good", moving=False)


def _of_the_rest(session: SessionView) -> Story:
    """Of a session that has ended and owed something back."""
    rest_sats = session.refund_amount_sats
    if session.refund_state == "pending" and session.refund_to and not session.refund_problem:
        headline = f"{_with_verb(rest_sats, 'goes', 'go')} back to you"
        return Story(headline, "The payment leaves in a moment.", "busy", moving=True)
    if session.refund_state == "pending":
        text = "Say where to send it. There is no hurry: it waits here, however long that is."
        return Story(f"{_with_verb(rest_sats, 'is', 'are')} yours", text, "ask", moving=True)
    if session.refund_state == "paying":
        text = "Until the payment arrives it stays on our books as yours; it is never sent twice."
        way = "its way" if rest_sats == 1 else "their way"
        return Story(f"{_with_verb(rest_sats, 'is', 'are')} on {way}", text, "busy", moving=True)
    text = "This balance is closed, to the last sat."
    return Story(f"{sats(rest_sats)} went back to you", text, "good", moving=False)


def _with_verb(amount_sats: int, one: str, many: str) -> str:
    """`1 sat is`, `2 sats are`."""
    return f"{sats(amount_sats)} {one if amount_sats == 1 else many}"


# --- refusals ----------------------------------------------------------------------------------------------

_WORDS: dict[str, Words] = {
    p.NODE_UNAVAILABLE.code: Words("Try again in a moment.", BALANCE_IS_SAFE),
    p.DATABASE_UNAVAILABLE.code: Words("Try again in a moment.", BALANCE_IS_SAFE),
    p.NOT_READY.code: Words("Try again in a moment.", BALANCE_IS_SAFE),
    p.IDEMPOTENCY_KEY_IN_USE.code: Words(
        "You sent this form already, and it is being worked on. Wait a moment, then look again.",
        "However often you send it, it counts once.",
    ),
    p.WORK_FAILED.code: Words("", "Nothing was charged: what was held for it can be spent again."),
    p.INTERNAL.code: Words(
        "Something went wrong on our side; it was logged.",
        "Your balance is what the statement says; nothing is charged twice.",
    ),
    p.SESSION_NOT_FOUND.code: Words("Check the address: every letter counts, also capital ones.", ""),
}


def words_of(problem: Problem) -> Words:
    """What a refusal means to the owner of a balance: other than to the buyer of a job, where the money differs."""
    if problem.type is p.BALANCE_TOO_LOW:
        return _missing(problem)
    known, other = _WORDS.get(problem.type.code, Words("", "")), words_for(problem)
    return Words(known.what or other.what, known.money or other.money, known.title or other.title)


def _missing(problem: Problem) -> Words:
    """402: how much is missing, and whether there is an invoice for it."""
    cost, there, missing = (int(problem.extra[name]) for name in ("estimateSats", "balanceSats", "missingSats"))
    what = f"It may cost {sats(cost)}, and you have {sats(there)}: {sats(missing)} more, and it can run."
    then = "Pay the invoice, then run it again." if "invoice" in problem.extra else "Top up, then run it again."
    return Words(f"{what} {then}", "Nothing was charged.", "Not enough to spend")


def one_line_of(problem: Problem) -> str:
    """For an error that is shown in place, beside its form."""
    words = words_of(problem)
    return " ".join(part for part in (f"{words.title}.", words.what, words.money) if part)
