"""`/api/operator/webhooks…`: who is told of jobs and refunds, what was told, and telling again."""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web

from gateway import problems
from gateway.api.body import read_model
from gateway.api.jobs import answered_once, json_response
from gateway.api.models import WebhookChange, WebhookRequest, WebhookView
from gateway.api.operator import list_page, require_operator
from gateway.context import GATEWAY, Gateway
from gateway.ids import webhook_secret
from gateway.problems import Problem
from gateway.webhooks.decisions import EVENTS, unknown_events
from ledger import sql

_q = sql.load("gateway.webhooks")

ID = re.compile("[A-Za-z0-9_-]{1,64}")
HTTP_URL = re.compile(r"https?://[^\s/?#@]+([/?#]\S*)?")


async def operator_create_webhook(request: web.Request) -> web.Response:
    """The secret is told here only (it follows from TOKEN_SECRET and the id)."""
    require_operator(request)
    gateway = request.app[GATEWAY]
    asked, raw = await read_model(request, WebhookRequest)

    async def prepare() -> None:
        _refuse(asked.url, asked.events)

    async def answer(_: None, endpoint_id: str, resumed: bool) -> WebhookView:
        await gateway.pool.execute(_q.insert_endpoint, endpoint_id, asked.url, asked.events)
        return await _endpoint(gateway, endpoint_id)

    scope = "POST /api/operator/webhooks"
    endpoint_id, status, body = await answered_once(gateway, request, scope, raw, prepare, answer, status=201)
    return json_response({**body, "secret": webhook_secret(gateway.token_secret, endpoint_id)}, status)


async def operator_change_webhook(request: web.Request) -> web.Response:
    """What is not given stays. Switched off, what waits is kept, and told when it is switched on again."""
    require_operator(request)
    gateway = request.app[GATEWAY]
    asked, _ = await read_model(request, WebhookChange)
    _refuse(asked.url, asked.events)
    args = (request.match_info["id"], asked.url, asked.events, asked.enabled)
    row = await gateway.pool.fetchrow(_q.change_endpoint, *args) if ID.fullmatch(args[0]) else None
    if row is None:
        raise Problem(problems.WEBHOOK_NOT_FOUND)
    return json_response(_view(row).wire())


async def operator_redeliver(request: web.Request) -> web.Response:
    """One that was given up, or that arrived and is wanted again: tried from the beginning, with the event's id."""
    require_operator(request)
    pool, delivery_id = request.app[GATEWAY].pool, request.match_info["id"]
    state = await pool.fetchval(_q.delivery, delivery_id) if ID.fullmatch(delivery_id) else None
    if state is None:
        raise Problem(problems.WEBHOOK_NOT_FOUND)
    await pool.execute(_q.redeliver, delivery_id)  # one that is pending is under way anyhow
    return json_response({"id": delivery_id, "state": "pending"}, 202)


async def operator_webhooks(request: web.Request) -> web.Response:
    return await list_page(request, _q.list_endpoints)


async def operator_webhook_deliveries(request: web.Request) -> web.Response:
    return await list_page(request, _q.list_deliveries)


async def _endpoint(gateway: Gateway, endpoint_id: str) -> WebhookView:
    row = await gateway.pool.fetchrow(_q.endpoint, endpoint_id)
    if row is None:
        raise RuntimeError("an endpoint vanished: rows are never deleted")
    return _view(row)


def _view(row: Any) -> WebhookView:
    return WebhookView(
        id=row["id"],
        url=row["url"],
        events=row["events"],
        enabled=row["enabled"],
        disabled_reason=row["disabled_reason"],
        created_at=row["created_at"],
    )


def _refuse(url: str | None, events: list[str] | None) -> None:
    """Pure. Raises Problem."""
    if url is not None and HTTP_URL.fullmatch(url) is None:
        raise Problem(problems.INVALID_BODY, "/url: an http or https address, without a name and password in it.")
    if unknown := unknown_events(events or ()):
        raise Problem(problems.INVALID_BODY, f"/events: there is no {unknown[0]!r}; there are {', '.join(EVENTS)}.")
