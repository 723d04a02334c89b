"""Alive, ready, metrics, the catalogue, the pool."""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway import problems
from gateway.api.access import client_address
from gateway.api.body import read_model
from gateway.api.jobs import answered_once, json_response
from gateway.api.models import DonationRequest, DonationView, HealthView, PoolView, ReadyView, WorksView, WorkView
from gateway.catalogue import WorkEntry
from gateway.context import GATEWAY, Gateway
from gateway.jobs.donate import Gift, donate
from gateway.problems import Problem
from ledger import book, grants
from ledger.database import DATABASE_AWAY, Pool
from ledger.money import whole_sats
from ledger.transfers import POOL, POOL_RESERVED
from lightning.types import NodeUnavailable


async def healthz(request: web.Request) -> web.Response:
    return json_response(HealthView(status="ok").wire())


async def readyz(request: web.Request) -> web.Response:
    """Ready: the database answers, the node answers and is synced to its chain."""
    gateway = request.app[GATEWAY]
    if gateway.stopping.is_set():
        raise Problem(problems.NOT_READY, "The gateway is stopping.")
    try:
        async with asyncio.timeout(5):
            await gateway.pool.fetchval("select 1")
            info = await gateway.node.get_info()
    except NodeUnavailable as error:
        raise Problem(problems.NOT_READY, f"The Lightning node does not answer: {error}") from None
    except DATABASE_AWAY:
        raise Problem(problems.NOT_READY, "The database or the node does not answer.") from None
    if not info.synced_to_chain:
        raise Problem(problems.NOT_READY, "The Lightning node is not synced to its chain yet.")
    return json_response(ReadyView(status="ready", network=info.network, block_height=info.block_height).wire())


async def metrics(request: web.Request) -> web.Response:
    body = request.app[GATEWAY].metrics.render()
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def work_view(entry: WorkEntry) -> WorkView:
    return WorkView(
        name=entry.name,
        title=entry.title,
        description=entry.description,
        worker=entry.worker,
        price=entry.price.model_dump(mode="json", exclude_none=True),
        evaluation_fee_sats=entry.evaluation_fee_sats,
        input_schema=entry.schema_of_input,
        example=entry.example,
    )


async def works(request: web.Request) -> web.Response:
    entries = request.app[GATEWAY].catalogue.works
    return json_response(WorksView(works=[work_view(entry) for entry in entries]).wire())


async def donate_to_pool(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    asked, raw = await read_model(request, DonationRequest)
    address = client_address(request, gateway.settings.trusted_proxies)

    async def prepare() -> None:
        gateway.open_invoices.refuse_above(gateway.settings.open_invoices_total)

    async def answer(_: None, donation_id: str, resumed: bool) -> DonationView:
        gift = Gift(donation_id, asked.amount_sats, address, gateway.memo("Donation to the free pool"))
        invoice = await donate(gateway.pool, gateway.node, gift, gateway.token_secret, gateway.invoice_limits)
        gateway.open_invoices.opened()
        return DonationView(invoice=invoice)

    scope = "POST /api/pool/donations"
    _, status, body = await answered_once(gateway, request, scope, raw, prepare, answer, status=201)
    return json_response(body, status)


async def pool(request: web.Request) -> web.Response:
    """What the free-tier pool can still reserve, and what it gave today."""
    return json_response((await pool_view(request.app[GATEWAY])).wire())


async def pool_view(gateway: Gateway) -> PoolView:
    return await read_pool(gateway.pool)


async def read_pool(database: Pool) -> PoolView:
    async with database.acquire() as conn:
        balances = await book.kept_balances(conn, (POOL, POOL_RESERVED))
        today = await grants.used_today(conn, grants.POOL_DAY)
    return PoolView(
        balance_sats=whole_sats(balances[POOL]),
        reserved_sats=whole_sats(balances[POOL_RESERVED]),
        absorbed_today_sats=today.absorbed_sats,
    )
