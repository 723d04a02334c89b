"""Where a session stands, in words for its owner: what to do now, and where the sats are. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.api.models import SessionView
from gateway.pages.rendering import sats


@dataclass(frozen=True, slots=True)
class Story:
    """`moving`: it changes by itself, without the reader."""

    headline: str
    text: str
    tone: str
    moving: bool


def story_of(session: SessionView) -> Story:
    rest = sats(session.refund_amount_sats)
    match session.state:
        case "awaiting_deposit":
            text = "Pay once, then use it bit by bit. What you do not use comes back."
            return Story(f"Pay in {sats(session.deposit_sats)}", text, "ask", moving=True)
        case "active":
            text = "Each request holds the most that it may cost, and is charged what it really cost."
            if session.held_sats:
                text = f"{sats(session.held_sats)} are held for what runs now; what it does not cost comes back."
            return Story(f"{sats(session.balance_sats)} to spend", text, "good", moving=True)
        case "closing":
            return Story("Closing", "What runs now is finished first. Then the rest is yours.", "busy", moving=True)
    if session.refund_state == "pending" and session.refund_to and not session.refund_problem:
        return Story(f"{rest} go back to you", "They are sent in a moment.", "busy", moving=True)
    if session.refund_state == "pending":
        text = "They wait here until you say where they go, however long that is."
        return Story(f"{rest} are yours", text, "ask", moving=True)
    if session.refund_state == "paying":
        text = "Until they arrive they stay on our books as yours; they are never sent twice."
        return Story(f"{rest} are on their way", text, "busy", moving=True)
    if session.refund_state == "paid":
        return Story(f"{rest} went back to you", "This balance is closed, to the last sat.", "good", moving=False)
    if session.balance_sats:
        text = "Nobody used it for a long time. What is left is yours: close it, and say where it goes."
        return Story(f"{sats(session.balance_sats)} are yours", text, "ask", moving=False)
    if session.state == "expired":
        return Story("Never paid", "The invoice is over, and nothing was taken. Open a new balance.", "", moving=False)
    return Story("Closed", "Everything was used. There is nothing to give back.", "good", moving=False)
