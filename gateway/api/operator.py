"""`/api/operator/…`: what the one who runs the gateway sees and says, opened by the operator key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import asyncpg
from aiohttp import web
from pydantic.alias_generators import to_camel

from gateway import idempotency, problems
from gateway.api.access import BEARER, client_address
from gateway.api.bearer import bearer
from gateway.api.body import read_model
from gateway.api.jobs import json_response
from gateway.api.models import IdentityChange, OperatorIdentityView, PageView, PoolView, RefundRetryView, TopupRequest
from gateway.api.system import pool_view
from gateway.context import GATEWAY
from gateway.ids import new_id
from gateway.operator.books import reconcile_now
from gateway.operator.export import csv_text
from gateway.operator.identities import Change, check, set_identity
from gateway.operator.log import Actor
from gateway.operator.pool import topup
from gateway.operator.refunds import retry_refund
from gateway.operator.sessions import is_operator_key
from gateway.problems import Problem
from ledger import book, grants, sql

_lists = sql.load("gateway.operator", "lists.sql")

PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000

# What the API tells of each row, in this order; the lists themselves are the pages', too.
IDENTITY = ("pubkey", "paid_sats", "operator_tier", "blocked", "first_seen_at")
GRANT = (
    *("id", "reservation_id", "pubkey", "request_hash", "day"),
    *("reserved_sats", "absorbed_sats", "created_at"),
)
TRANSFER = ("id", "cause_kind", "cause_id", "debit", "credit", "amount_msat", "created_at")
JOB = (
    *("id", "work", "state", "serve", "estimate_sats", "absorb_sats", "work_amount_sats", "pubkey"),
    *("actual_cost_sats", "absorbed_sats", "user_charge_sats", "failure_reason", "created_at", "updated_at"),
)
SESSION = (
    *("id", "state", "pubkey", "deposit_sats", "balance_msat", "held_msat"),
    *("last_used_at", "created_at", "updated_at"),
)
REFUND = (
    *("id", "job_id", "session_id", "cause", "amount_sats", "state", "attempt_state"),
    *("failure_reason", "refund_problem", "sends", "created_at", "updated_at"),
)


def require_operator(request: web.Request) -> None:
    """Constant time. Raises Problem (401)."""
    token = bearer(request)
    if token is None:
        raise Problem(problems.CREDENTIAL_REQUIRED, "Send the operator key as bearer token.", headers=BEARER)
    if not is_operator_key(request.app[GATEWAY], token):
        raise Problem(problems.CREDENTIAL_INVALID, "This is not the operator key.", headers=BEARER)


def actor(request: web.Request) -> Actor:
    """After `require_operator`: the bearer of the key, and from where."""
    return Actor("key", address=client_address(request, request.app[GATEWAY].settings.trusted_proxies))


async def operator_topup(request: web.Request) -> web.Response:
    """Capital to pool, at once. The same Idempotency-Key tops up once."""
    require_operator(request)
    gateway = request.app[GATEWAY]
    asked, _ = await read_model(request, TopupRequest)
    key = idempotency.checked_key(request.headers.get(idempotency.HEADER))
    await topup(gateway.pool, actor(request), asked.amount_sats, new_id() if key is None else f"key:{key}")
    view: PoolView = await pool_view(gateway)
    return json_response(view.wire())


async def operator_identity(request: web.Request) -> web.Response:
    """Sets a tier, or null for what was earned; blocks or lets in; makes the identity known when it is new."""
    require_operator(request)
    gateway = request.app[GATEWAY]
    pubkey = request.match_info["pubkey"]
    check(gateway.rules, pubkey, Change())
    asked, _ = await read_model(request, IdentityChange)
    given = asked.model_fields_set
    change = Change(asked.tier, "tier" in given, asked.blocked, "blocked" in given)
    row, _ = await set_identity(gateway.pool, gateway.rules, actor(request), pubkey, change)
    tier, _ = grants.rank_of(row, gateway.rules)
    view = OperatorIdentityView(
        pubkey=pubkey,
        tier=tier.name if tier else None,
        operator_tier=row["operator_tier"],
        blocked=row["blocked"],
        paid_sats=row["paid_sats"],
    )
    return json_response(view.wire())


async def operator_retry_refund(request: web.Request) -> web.Response:
    """A destination on file that was rejected is asked once more. Raises Problem (404, 409)."""
    require_operator(request)
    gateway = request.app[GATEWAY]
    refund_id = request.match_info["id"]
    row, _ = await retry_refund(gateway.pool, gateway.on_file_wake, actor(request), refund_id)
    view = RefundRetryView(
        id=refund_id, job_id=row["job_id"], amount_sats=row["amount_sats"], refund_to=row["refund_to"]
    )
    return json_response(view.wire())


async def operator_reconciliation(request: web.Request) -> web.Response:
    """As `boltworks reconcile`: a node that does not answer is a report that says so."""
    require_operator(request)
    report = await reconcile_now(request.app[GATEWAY], actor(request))
    return json_response(report.to_dict())


async def operator_identities(request: web.Request) -> web.Response:
    return await list_page(request, _lists.list_identities, IDENTITY)


async def operator_grants(request: web.Request) -> web.Response:
    return await list_page(request, _lists.list_grants, GRANT)


async def operator_transfers(request: web.Request) -> web.Response:
    return await list_page(request, _lists.list_transfers, TRANSFER)


async def operator_jobs(request: web.Request) -> web.Response:
    return await list_page(request, _lists.list_jobs, JOB)


async def operator_sessions(request: web.Request) -> web.Response:
    return await list_page(request, _lists.list_sessions, SESSION)


async def operator_refunds(request: web.Request) -> web.Response:
    return await list_page(request, _lists.list_refunds, REFUND)


async def operator_balances(request: web.Request) -> web.Response:
    """Every account on its normal side, in msat."""
    require_operator(request)
    async with request.app[GATEWAY].pool.acquire() as conn:
        balances = await book.balances(conn)
    return _rows(request, [{"account": code, "balanceMsat": msat} for code, msat in balances.items()], None)


async def list_page(request: web.Request, statement: str, told: Sequence[str] | None = None) -> web.Response:
    """Cursor pagination: `after` is the `next` of the page before. CSV on `Accept: text/csv`.

    `told`: the columns of one of the operator's lists, unfiltered. None: the statement names its members itself.
    """
    require_operator(request)
    after = request.query.get("after")
    size = request.query.get("limit", str(PAGE_SIZE))
    if not re.fullmatch("[0-9]{1,4}", size) or not 1 <= int(size) <= MAX_PAGE_SIZE:
        raise Problem(problems.INVALID_REQUEST, f"limit is a number from 1 to {MAX_PAGE_SIZE}.")
    try:
        if after is not None and "\0" in after:
            raise ValueError
        unfiltered = () if told is None else (None, None)
        rows = await request.app[GATEWAY].pool.fetch(statement, after, int(size) + 1, *unfiltered)
    except (asyncpg.DataError, ValueError):
        raise Problem(problems.INVALID_REQUEST, "after is not the next of a page.") from None
    page = rows[: int(size)]
    following = page[-1]["cursor"] if len(rows) > int(size) else None
    return _rows(request, [_members(row, told) for row in page], following)


def _members(row: Any, told: Sequence[str] | None) -> dict[str, Any]:
    if told is not None:
        return {to_camel(name): _wire(row[name]) for name in told}
    return {name: _wire(value) for name, value in row.items() if name != "cursor"}


def _rows(request: web.Request, rows: list[dict[str, Any]], following: str | None) -> web.Response:
    if "text/csv" not in request.headers.get("Accept", ""):
        known = [{name: value for name, value in row.items() if value is not None} for row in rows]
        return json_response(PageView(items=known, next=following).wire())
    headers = {"Cache-Control": "no-store"} | ({"X-Next": following} if following else {})
    return web.Response(text=csv_text(rows), content_type="text/csv", headers=headers)


def _wire(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else value
