"""`/api/operator/…`: what the one who runs the gateway sees and says, opened by the operator key."""

from __future__ import annotations

import csv
import hmac
import io
import re
from datetime import date, datetime
from typing import Any

import asyncpg
from aiohttp import web

from gateway import idempotency, problems
from gateway.api.access import BEARER
from gateway.api.bearer import bearer
from gateway.api.body import read_model
from gateway.api.jobs import json_response
from gateway.api.models import IdentityChange, OperatorIdentityView, PageView, PoolView, RefundRetryView, TopupRequest
from gateway.api.system import pool_view
from gateway.context import GATEWAY
from gateway.execution.queue import enqueue
from gateway.ids import new_id
from gateway.problems import Problem
from gateway.reconcile.run import reconcile
from ledger import book, grants, sql, transfers
from ledger.book import CauseConflict
from ledger.database import Connection
from ledger.money import MAX_SATS, sats_to_msat

_q = sql.load("gateway.api", "operator.sql")

PUBKEY = re.compile("[0-9a-f]{64}")
REFUND_ID = re.compile("[A-Za-z0-9_-]{1,64}")
PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000


def require_operator(request: web.Request) -> None:
    """Constant time. Raises Problem (401)."""
    token = bearer(request)
    key = request.app[GATEWAY].settings.operator_key.get_secret_value()
    if token is None:
        raise Problem(problems.CREDENTIAL_REQUIRED, "Send the operator key as bearer token.", headers=BEARER)
    if not hmac.compare_digest(token.encode(errors="surrogateescape"), key.encode()):
        raise Problem(problems.CREDENTIAL_INVALID, "This is not the operator key.", headers=BEARER)


async def operator_topup(request: web.Request) -> web.Response:
    """Capital to pool, at once. The same Idempotency-Key tops up once."""
    require_operator(request)
    gateway = request.app[GATEWAY]
    asked, _ = await read_model(request, TopupRequest)
    key = idempotency.checked_key(request.headers.get(idempotency.HEADER))
    cause = new_id() if key is None else f"key:{key}"
    try:
        async with gateway.pool.acquire() as conn, conn.transaction():
            if await book.post(conn, [transfers.topup(cause, sats_to_msat(asked.amount_sats))]):
                await _refuse_overfull(conn)
    except CauseConflict:
        raise Problem(problems.IDEMPOTENCY_KEY_REUSED, "Use a new key for a new top-up.") from None
    view: PoolView = await pool_view(gateway)
    return json_response(view.wire())


async def _refuse_overfull(conn: Connection) -> None:
    """After a posting, under its lock on the pool: more than there can be is a slip of the hand. Raises Problem."""
    held_msat = sum((await book.kept_balances(conn, (transfers.POOL, transfers.POOL_RESERVED))).values())
    if held_msat > sats_to_msat(MAX_SATS):
        raise Problem(problems.POOL_FULL, f"It holds at most {MAX_SATS} sats: there are no more. Nothing was booked.")


async def operator_identity(request: web.Request) -> web.Response:
    """Sets a tier, or null for what was earned; blocks or lets in; makes the identity known when it is new."""
    require_operator(request)
    gateway = request.app[GATEWAY]
    pubkey = request.match_info["pubkey"]
    if not PUBKEY.fullmatch(pubkey):
        raise Problem(problems.INVALID_REQUEST, "A public key is 64 small hexadecimal digits.")
    asked, _ = await read_model(request, IdentityChange)
    names = [tier.name for tier in gateway.rules.tiers]
    if asked.tier is not None and asked.tier not in names:
        raise Problem(problems.INVALID_BODY, f"/tier: there is no such tier; there are {', '.join(names) or 'none'}.")
    given = asked.model_fields_set
    row = await gateway.pool.fetchrow(
        _q.set_identity, pubkey, asked.tier, "tier" in given, asked.blocked, "blocked" in given
    )
    if row is None:
        raise RuntimeError("an upsert answers its row")
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
    known = await gateway.pool.fetchrow(_q.refund_to_retry, refund_id) if REFUND_ID.fullmatch(refund_id) else None
    if known is None:
        raise Problem(problems.REFUND_NOT_FOUND)
    row = await gateway.pool.fetchrow(_q.retry_refund, refund_id)
    if row is None:
        raise Problem(problems.REFUND_NOT_RETRYABLE, _why_not(known["state"], known["refund_to"]))
    gateway.on_file_wake.set()
    view = RefundRetryView(
        id=refund_id, job_id=row["job_id"], amount_sats=row["amount_sats"], refund_to=row["refund_to"]
    )
    return json_response(view.wire())


def _why_not(state: str, refund_to: str | None) -> str:
    """Pure."""
    if state != "pending":
        return f"It is {state}."
    if refund_to is None:
        return "No destination is on file: it waits until its payer gives one."
    return "Its destination was not rejected: it is tried anyway."


async def operator_reconciliation(request: web.Request) -> web.Response:
    """As `boltworks reconcile`: a node that does not answer is a report that says so."""
    require_operator(request)
    gateway = request.app[GATEWAY]
    report = await reconcile(gateway.pool, gateway.node, enqueue, gateway.rules, gateway.metrics)
    return json_response(report.to_dict())


async def operator_identities(request: web.Request) -> web.Response:
    return await list_page(request, _q.list_identities)


async def operator_grants(request: web.Request) -> web.Response:
    return await list_page(request, _q.list_grants)


async def operator_transfers(request: web.Request) -> web.Response:
    return await list_page(request, _q.list_transfers)


async def operator_jobs(request: web.Request) -> web.Response:
    return await list_page(request, _q.list_jobs)


async def operator_sessions(request: web.Request) -> web.Response:
    return await list_page(request, _q.list_sessions)


async def operator_refunds(request: web.Request) -> web.Response:
    return await list_page(request, _q.list_refunds)


async def operator_balances(request: web.Request) -> web.Response:
    """Every account on its normal side, in msat."""
    require_operator(request)
    async with request.app[GATEWAY].pool.acquire() as conn:
        balances = await book.balances(conn)
    return _rows(request, [{"account": code, "balanceMsat": msat} for code, msat in balances.items()], None)


async def list_page(request: web.Request, statement: str) -> web.Response:
    """Cursor pagination: `after` is the `next` of the page before. CSV on `Accept: text/csv`."""
    require_operator(request)
    after = request.query.get("after")
    size = request.query.get("limit", str(PAGE_SIZE))
    if not re.fullmatch("[0-9]{1,4}", size) or not 1 <= int(size) <= MAX_PAGE_SIZE:
        raise Problem(problems.INVALID_REQUEST, f"limit is a number from 1 to {MAX_PAGE_SIZE}.")
    try:
        if after is not None and "\0" in after:
            raise ValueError
        rows = await request.app[GATEWAY].pool.fetch(statement, after, int(size) + 1)
    except (asyncpg.DataError, ValueError):
        raise Problem(problems.INVALID_REQUEST, "after is not the next of a page.") from None
    shown = [{name: _wire(value) for name, value in row.items()} for row in rows[: int(size)]]
    following = shown[-1]["cursor"] if len(rows) > int(size) else None
    for row in shown:
        del row["cursor"]
    return _rows(request, shown, following)


def _rows(request: web.Request, rows: list[dict[str, Any]], following: str | None) -> web.Response:
    if "text/csv" not in request.headers.get("Accept", ""):
        known = [{name: value for name, value in row.items() if value is not None} for row in rows]
        return json_response(PageView(items=known, next=following).wire())
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    headers = {"Cache-Control": "no-store"} | ({"X-Next": following} if following else {})
    return web.Response(text=text.getvalue(), content_type="text/csv", headers=headers)


def _cell(value: Any) -> Any:
    """A spreadsheet must not run what a stranger wrote."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def _wire(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else value
