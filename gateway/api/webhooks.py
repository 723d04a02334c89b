"""`/api/operator/webhooks…`: who is told of jobs and refunds, what was told, and telling again."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.api.body import read_model
from gateway.api.jobs import answered_once, json_response
from gateway.api.models import WebhookChange, WebhookRequest, WebhookView
from gateway.api.operator import actor, list_page, require_operator
from gateway.context import GATEWAY
from gateway.ids import webhook_secret
from gateway.operator.webhooks import Change, change_endpoint, check, make_endpoint, redeliver
from ledger import sql

_q = sql.load("gateway.webhooks")


async def operator_create_webhook(request: web.Request) -> web.Response:
    """The secret is told here only (it follows from TOKEN_SECRET and the id)."""
    require_operator(request)
    gateway = request.app[GATEWAY]
    asked, raw = await read_model(request, WebhookRequest)
    change = Change(asked.url, asked.events)

    async def prepare() -> None:
        check(change)

    async def answer(_: None, endpoint_id: str, resumed: bool) -> WebhookView:
        return _view(await make_endpoint(gateway.pool, actor(request), endpoint_id, change))

    scope = "POST /api/operator/webhooks"
    endpoint_id, status, body = await answered_once(gateway, request, scope, raw, prepare, answer, status=201)
    return json_response({**body, "secret": webhook_secret(gateway.token_secret, endpoint_id)}, status)


async def operator_change_webhook(request: web.Request) -> web.Response:
    """What is not given stays. Switched off, what waits is kept, and told when it is switched on again."""
    require_operator(request)
    asked, _ = await read_model(request, WebhookChange)
    change = Change(asked.url, asked.events, asked.enabled)
    row = await change_endpoint(request.app[GATEWAY].pool, actor(request), request.match_info["id"], change)
    return json_response(_view(row).wire())


async def operator_redeliver(request: web.Request) -> web.Response:
    """Tried from the beginning, with the event's id."""
    require_operator(request)
    delivery_id = request.match_info["id"]
    await redeliver(request.app[GATEWAY].pool, actor(request), delivery_id)
    return json_response({"id": delivery_id, "state": "pending"}, 202)


async def operator_webhooks(request: web.Request) -> web.Response:
    return await list_page(request, _q.list_endpoints)


async def operator_webhook_deliveries(request: web.Request) -> web.Response:
    return await list_page(request, _q.list_deliveries)


def _view(row: Any) -> WebhookView:
    return WebhookView(
        id=row["id"],
        url=row["url"],
        events=row["events"],
        enabled=row["enabled"],
        disabled_reason=row["disabled_reason"],
        created_at=row["created_at"],
    )
