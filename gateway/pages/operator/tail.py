"""`/operator/events`: what happened last, newest first: sales, payments, ends of work, refunds, the operator's acts."""

from __future__ import annotations

from aiohttp import web

from gateway.context import GATEWAY
from gateway.pages.operator.access import show_or_fragment
from ledger import sql

_q = sql.load("gateway.pages.operator", "operator.sql")

SHOWN = 100

WORDS = {
    "job": "Job made",
    "session": "Session opened",
    "settlement": "Paid in",
    "evaluation_fee": "Charged for the look",
    "charge": "Charged",
    "grant": "The pool paid",
    "overrun": "Cost beyond its cap",
    "refund_owed": "Refund owed",
    "refund_paid": "Refund paid",
    "refund_donated": "Refund given to the pool",
    "action": "Operator",
}
"""What each kind of event is called."""


async def page(request: web.Request) -> web.Response:
    rows = await request.app[GATEWAY].pool.fetch(_q.events, SHOWN)
    return show_or_fragment(request, "events.html", "event_rows.html", {"rows": rows, "words": WORDS, "shown": SHOWN})
