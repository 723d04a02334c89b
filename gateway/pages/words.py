"""What a refusal means to the person in front of it: what happened, and what happens to their sats."""

from __future__ import annotations

from dataclasses import dataclass

from gateway import problems as p
from gateway.pages.details import N_, in_words
from gateway.pages.language import gettext as _
from gateway.pages.origin import FOREIGN_FORM
from gateway.problems import Problem

NOTHING_TAKEN = N_("No sats were taken.")
PAID_IS_SAFE = N_(
    "Nothing is lost. If you have paid already, your payment is safe: the work starts as soon as we are back, "
    "or everything is owed back to you."
)
REFUND_WAITS = N_("Your refund is still yours: it waits here until you take it, however long that is.")
STILL_YOURS = N_(
    "If you paid for this job, your sats are safe: your wallet keeps the proof of payment, and with that the job opens."
)

LOCKED = N_("This browser does not hold this job's key")


@dataclass(frozen=True, slots=True)
class Words:
    """`what` and `money` are whole sentences; an empty one is left out. `title`: instead of the problem's own."""

    what: str
    money: str
    title: str = ""


_WORDS: dict[str, Words] = {
    p.NOT_FOUND.code: Words(N_("The address may be mistyped, or the page has moved."), ""),
    p.METHOD_NOT_ALLOWED.code: Words(N_("This page can not be used in that way. Please start again."), NOTHING_TAKEN),
    p.INVALID_REQUEST.code: Words("", NOTHING_TAKEN),
    p.BODY_TOO_LARGE.code: Words(
        N_(
            "What you sent is longer than we take. Go back with your browser's back button, which keeps your text, "
            "and shorten it."
        ),
        NOTHING_TAKEN,
    ),
    p.UNKNOWN_WORK.code: Words(N_("This work is not on offer any more."), NOTHING_TAKEN),
    p.TOO_MANY_INVOICES.code: Words("", NOTHING_TAKEN),
    p.CREDENTIAL_REQUIRED.code: Words(N_("A job opens only in the browser that bought it."), STILL_YOURS, LOCKED),
    p.CREDENTIAL_INVALID.code: Words(N_("A job opens only in the browser that bought it."), STILL_YOURS, LOCKED),
    p.IDENTITY_INVALID.code: Words("", NOTHING_TAKEN),
    p.CHALLENGE_INVALID.code: Words(N_("Please log in again."), NOTHING_TAKEN),
    p.TOO_MANY_LOGINS.code: Words("", NOTHING_TAKEN),
    p.JOB_NOT_FOUND.code: Words(N_("Check the address: every letter counts, also capital ones."), ""),
    p.NODE_UNAVAILABLE.code: Words(N_("Try again in a moment."), PAID_IS_SAFE),
    p.DATABASE_UNAVAILABLE.code: Words(N_("Try again in a moment."), PAID_IS_SAFE),
    p.NOT_READY.code: Words(N_("Try again in a moment."), PAID_IS_SAFE),
    p.IDEMPOTENCY_KEY_IN_USE.code: Words(N_("Your order is being placed already. Wait a moment."), NOTHING_TAKEN),
    p.REFUND_IN_PROGRESS.code: Words(
        N_("A refund is on its way already. If it fails, you can give another invoice here."),
        N_("It is never sent twice, and never lost."),
    ),
    p.INTERNAL.code: Words(
        N_("Something went wrong on our side; it was logged."),
        N_("Your money is where the books say it is: what you paid buys the work, or is owed back to you."),
    ),
    FOREIGN_FORM.code: Words(
        N_("Your browser says that another site sent this form, so nothing was done. Open our page and try there."),
        NOTHING_TAKEN,
    ),
}

_ABOUT_A_REFUND = frozenset(
    {
        p.DESTINATION_INVALID,
        p.DESTINATION_WRONG_AMOUNT,
        p.DESTINATION_EXPIRED,
        p.DESTINATION_WRONG_NETWORK,
        p.DESTINATION_OWN_NODE,
        p.DESTINATION_USED,
        p.DESTINATION_TIMELOCK,
    }
)


def words_for(problem: Problem) -> Words:
    """Our own words where there are some, else the problem's detail; in the page's language."""
    known = _WORDS.get(problem.type.code, Words("", REFUND_WAITS if problem.type in _ABOUT_A_REFUND else ""))
    return Words(_(known.what) or in_words(problem.detail), _(known.money), _(known.title) or _(problem.type.title))


def one_line(problem: Problem) -> str:
    """For an error that is shown in place, beside its form."""
    words = words_for(problem)
    return " ".join(part for part in (f"{words.title}.", words.what, words.money) if part)
