"""Where a session stands, in words for its owner: what to do now, and where the sats are. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.api.models import SessionView
from gateway.pages.language import gettext as _
from gateway.pages.language import ngettext, sats


@dataclass(frozen=True, slots=True)
class Story:
    """`moving`: it changes by itself, without the reader."""

    headline: str
    text: str
    tone: str
    moving: bool


def story_of(session: SessionView) -> Story:
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
    return _owed(session) if session.refund_state != "none" else _over(session)


def _while_active(held_sats: int) -> str:
    if not held_sats:
        return _("Each request holds the most that it may cost, and is charged what it really cost.")
    return ngettext(
        "%(sats)s is held for what runs now; what it does not cost comes back.",
        "%(sats)s are held for what runs now; what it does not cost comes back.",
        held_sats,
        sats=sats(held_sats),
    )


def _owed(session: SessionView) -> Story:
    """Something is, or was, given back."""
    count, rest = session.refund_amount_sats, sats(session.refund_amount_sats)
    if session.refund_state == "pending" and session.refund_to and not session.refund_problem:
        headline = ngettext("%(sats)s goes back to you", "%(sats)s go back to you", count, sats=rest)
        return Story(headline, _("They are sent in a moment."), "busy", moving=True)
    if session.refund_state == "pending":
        text = _("They wait here until you say where they go, however long that is.")
        return Story(_yours(count), text, "ask", moving=True)
    if session.refund_state == "paying":
        headline = ngettext("%(sats)s is on its way", "%(sats)s are on their way", count, sats=rest)
        text = _("Until they arrive they stay on our books as yours; they are never sent twice.")
        return Story(headline, text, "busy", moving=True)
    headline = ngettext("%(sats)s went back to you", "%(sats)s went back to you", count, sats=rest)
    return Story(headline, _("This balance is closed, to the last sat."), "good", moving=False)


def _over(session: SessionView) -> Story:
    if session.balance_sats:
        text = _("Nobody used it for a long time. What is left is yours: close it, and say where it goes.")
        return Story(_yours(session.balance_sats), text, "ask", moving=False)
    if session.state == "expired":
        text = _("The invoice is over, and nothing was taken. Open a new balance.")
        return Story(_("Never paid"), text, "", moving=False)
    return Story(_("Closed"), _("Everything was used. There is nothing to give back."), "good", moving=False)


def _yours(count: int) -> str:
    return ngettext("%(sats)s is yours", "%(sats)s are yours", count, sats=sats(count))
