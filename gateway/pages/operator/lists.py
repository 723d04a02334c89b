"""The operator's lists: one handler for all, each list a value. Filter, search, pages by cursor, the same as CSV."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal
from urllib.parse import urlencode

import asyncpg
from aiohttp import web

from gateway import problems
from gateway.context import GATEWAY
from gateway.operator.export import csv_text
from gateway.pages.operator.access import show_or_fragment
from gateway.pages.operator.said import said
from gateway.problems import Problem
from ledger import sql
from ledger.database import Pool

_q = sql.load("gateway.pages.operator", "operator.sql")
_shared = sql.load("gateway.operator", "lists.sql")

SHOWN = 50
EXPORTED_AT_ONCE = 1000
MAX_SEARCH = 200
Kind = Literal["text", "long", "sats", "msat", "time", "day", "state", "id", "owner", "key", "yes"]


@dataclass(frozen=True, slots=True)
class Column:
    """`name` in the statement's rows; `kind` says how the page draws it."""

    name: str
    label: str
    kind: Kind = "text"


@dataclass(frozen=True, slots=True)
class Listing:
    """`statement` takes ($1 after, $2 how many, $3 state, $4 searched) and answers `cursor` and the columns."""

    name: str
    title: str
    lead: str
    statement: str
    columns: tuple[Column, ...]
    search: str
    states: tuple[str, ...] = ()
    states_label: str = "State"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address says. None: no filter."""

    state: str | None = None
    search: str | None = None
    after: str | None = None

    def query(self, **changed: str | None) -> str:
        """As it stands in an address, with these changed."""
        members = {"state": self.state, "search": self.search, "after": self.after, **changed}
        given = {name: value for name, value in members.items() if value}
        return f"?{urlencode(given)}" if given else ""


WHEN = Column("created_at", "When (UTC)", "time")
KEY = Column("pubkey", "Nostr key", "key")
OWNER = Column("owner", "Of", "owner")
REASON = Column("reason", "Why", "long")
STATE = Column("state", "State", "state")

LISTINGS = (
    Listing(
        "refunds",
        "Refunds",
        "Every debt to a payer, newest first.",
        _shared.list_refunds,
        (
            Column("amount_sats", "Amount", "sats"),
            Column("stands", "State", "state"),
            REASON,
            Column("cause_kind", "Cause"),
            OWNER,
            Column("sends", "Sends"),
            WHEN,
            Column("id", "Refund", "id"),
        ),
        "A refund's, job's or session's id, a payment hash, a Nostr key",
        ("pending", "rejected", "paying", "frozen", "paid", "donated"),
    ),
    Listing(
        "jobs",
        "Jobs",
        "All jobs, newest first.",
        _shared.list_jobs,
        (
            Column("id", "Job", "id"),
            Column("work", "Work"),
            STATE,
            Column("serve", "Serve"),
            Column("work_amount_sats", "Asked", "sats"),
            Column("user_charge_sats", "Charged", "sats"),
            Column("absorbed_sats", "Pool paid", "sats"),
            KEY,
            Column("failure_reason", "Why", "long"),
            WHEN,
        ),
        "A job's id, a payment hash, a Nostr key",
        (
            "awaiting_eval_payment",
            "evaluating",
            "awaiting_work_payment",
            "executing",
            "complete",
            "failed",
            "rejected",
            "expired",
        ),
    ),
    Listing(
        "sessions",
        "Sessions",
        "Prepaid balances, newest first.",
        _shared.list_sessions,
        (
            Column("id", "Session", "id"),
            STATE,
            Column("deposit_sats", "Deposit", "sats"),
            Column("balance_msat", "Can be spent", "msat"),
            Column("held_msat", "Held", "msat"),
            KEY,
            REASON,
            Column("last_used_at", "Last used", "time"),
            WHEN,
        ),
        "A session's id, a payment hash, a Nostr key",
        ("awaiting_deposit", "active", "closing", "closed", "expired"),
    ),
    Listing(
        "invoices",
        "Invoices",
        "What payers were asked for, newest first.",
        _q.list_invoices,
        (
            Column("payment_hash", "Payment hash", "id"),
            Column("purpose", "For"),
            STATE,
            Column("amount_msat", "Amount", "msat"),
            Column("amount_paid_msat", "Paid", "msat"),
            OWNER,
            Column("expires_at", "Expires", "time"),
            WHEN,
        ),
        "A payment hash, a job's or session's id",
        ("planned", "open", "settled", "canceled"),
    ),
    Listing(
        "identities",
        "Identities",
        "Nostr keys that bought something, or that you named.",
        _shared.list_identities,
        (
            KEY,
            Column("paid_sats", "Has paid", "sats"),
            Column("operator_tier", "Tier you set"),
            Column("blocked", "Blocked", "yes"),
            Column("absorbed_today_sats", "Pool paid today", "sats"),
            Column("first_seen_at", "First seen", "time"),
        ),
        "A Nostr key (64 hexadecimal digits)",
        ("blocked", "tier set"),
        "Which",
    ),
    Listing(
        "grants",
        "Grants",
        "What the pool really paid, newest first.",
        _shared.list_grants,
        (
            Column("id", "Grant"),
            Column("absorbed_sats", "Pool paid", "sats"),
            Column("reserved_sats", "Set aside", "sats"),
            KEY,
            Column("reservation_id", "For", "long"),
            Column("day", "Counts on", "day"),
            WHEN,
        ),
        "A Nostr key, a job's id, a request's hash",
    ),
    Listing(
        "book",
        "The book",
        "Every transfer, newest first. None is ever changed.",
        _shared.list_transfers,
        (
            Column("id", "Number"),
            Column("cause_kind", "Cause"),
            Column("debit", "From (debit)", "long"),
            Column("credit", "To (credit)", "long"),
            Column("amount_msat", "Amount", "msat"),
            Column("cause_id", "Cause's id", "long"),
            WHEN,
        ),
        "A cause's id, an account, a job's or session's id",
        (
            "settlement",
            "charge",
            "evaluation_fee",
            "refund_owed",
            "refund_paid",
            "refund_donated",
            "routing_fee",
            "reserve",
            "grant",
            "release",
            "pool_share",
            "topup",
            "hold",
            "unhold",
            "overrun",
            "sub_sat",
        ),
        "Cause",
    ),
    Listing(
        "webhooks",
        "Webhooks",
        "Who is told of jobs and refunds. Made and changed by the operator API.",
        _q.list_webhooks,
        (
            Column("id", "Endpoint", "id"),
            Column("url", "Address", "long"),
            Column("events", "Told of", "long"),
            STATE,
            Column("waiting", "Wait to be told"),
            REASON,
            WHEN,
        ),
        "An endpoint's id",
        ("on", "off"),
    ),
    Listing(
        "deliveries",
        "Deliveries",
        "What was told to whom, or is to be, newest first.",
        _q.list_deliveries,
        (
            Column("type", "Event"),
            STATE,
            Column("owner", "Of", "owner"),
            Column("attempts", "Attempts"),
            Column("last_status", "HTTP"),
            REASON,
            Column("next_attempt_at", "Next attempt", "time"),
            WHEN,
            Column("id", "Delivery", "id"),
        ),
        "A delivery's, endpoint's, event's, job's or session's id",
        ("pending", "delivered", "failed"),
    ),
    Listing(
        "actions",
        "What was done",
        "By these pages, the operator API and commands, newest first. None is ever changed.",
        _q.list_actions,
        (
            WHEN,
            Column("action", "What"),
            Column("said", "Asked for", "long"),
            Column("subject", "To", "long"),
            Column("outcome", "Outcome", "state"),
            Column("problem", "Refused because"),
            Column("who", "Who", "id"),
            Column("address", "From"),
        ),
        "A subject, a session's id, an action",
        ("done", "repeated", "refused"),
        "Outcome",
    ),
)


def asked_of(listing: Listing, query: Any) -> Asked:
    """What a query string asks for; an unknown state and what no row can hold are refused (400). Pure."""
    given = {name: query.get(name, "").strip() or None for name in ("state", "search", "after")}
    for value in given.values():
        if value is not None and (len(value) > MAX_SEARCH or "\0" in value or re.search("[\ud800-\udfff]", value)):
            raise Problem(problems.INVALID_REQUEST, "This can not be searched for.")
    if given["state"] is not None and given["state"] not in listing.states:
        raise Problem(problems.INVALID_REQUEST, "There is no such filter.")
    return Asked(**given)


async def rows_of(pool: Pool, listing: Listing, asked: Asked, size: int) -> tuple[list[dict[str, Any]], str | None]:
    """One page of rows, without their cursors, and the cursor of the next page. Raises Problem (400)."""
    try:
        found = await pool.fetch(listing.statement, asked.after, size + 1, asked.state, asked.search)
    except asyncpg.DataError:
        raise Problem(problems.INVALID_REQUEST, "This is not the next of a page.") from None
    following = found[size - 1]["cursor"] if len(found) > size else None
    return [{name: value for name, value in row.items() if name != "cursor"} for row in found[:size]], following


def page_of(listing: Listing) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The handler of a list's page."""

    async def handler(request: web.Request) -> web.Response:
        pool = request.app[GATEWAY].pool
        asked = asked_of(listing, request.query)
        rows, following = await rows_of(pool, listing, asked, SHOWN)
        context = {
            "listing": listing,
            "asked": asked,
            "rows": rows,
            "next": asked.query(after=following) if following else None,
            "csv": f"/operator/{listing.name}.csv{asked.query(after=None)}",
            "said": await said(request),
        }
        return show_or_fragment(request, "list.html", "list_rows.html", context)

    return handler


def csv_of(listing: Listing) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler of a list's export: every row that the filter lets through, page by page."""

    async def handler(request: web.Request) -> web.StreamResponse:
        asked = asked_of(listing, request.query)
        parts = _export(request.app[GATEWAY].pool, listing, asked)
        # The first page is read before the answer begins, so that a refusal can still be one.
        first = await anext(parts, "")
        response = web.StreamResponse(
            headers={
                "Cache-Control": "no-store",
                "Content-Disposition": f'attachment; filename="{listing.name}.csv"',
            }
        )
        response.content_type, response.charset = "text/csv", "utf-8"
        await response.prepare(request)
        await response.write(first.encode())
        async for part in parts:
            await response.write(part.encode())
        await response.write_eof()
        return response

    return handler


async def _export(pool: Pool, listing: Listing, asked: Asked) -> AsyncIterator[str]:
    following, head = asked.after, True
    while head or following is not None:
        page = Asked(asked.state, asked.search, following)
        rows, following = await rows_of(pool, listing, page, EXPORTED_AT_ONCE)
        yield await asyncio.to_thread(csv_text, [_wire(row) for row in rows], head=head)
        head = False


def _wire(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, date | datetime) else value for name, value in row.items()}
