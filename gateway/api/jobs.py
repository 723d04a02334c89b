"""The handlers of jobs: from the request to a use case and back. No money is decided here."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from gateway import idempotency, problems
from gateway.api.access import client_address, require_job
from gateway.api.body import read_model
from gateway.api.models import EstimateRequest, EstimateView, JobRequest, JobView, RefundRequest
from gateway.context import GATEWAY, Gateway
from gateway.ids import bearer_token, new_id
from gateway.jobs import create, end_unpaid
from gateway.jobs.create import NewJob, PlannedInvoice
from gateway.jobs.price import Priced, price
from gateway.jobs.view import read_job
from gateway.problems import Problem
from gateway.refunds.claim import claim
from gateway.refunds.destination import read_destination, refuse_used
from ledger.database import DATABASE_AWAY
from ledger.free_tier import decide_without_identity
from lightning.types import NodeUnavailable

SSE_HEARTBEAT_S = 15.0


def json_response(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(body, ensure_ascii=False).encode(),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


async def estimate(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    asked, _ = await read_model(request, EstimateRequest)
    priced = await price(gateway.catalogue, asked.work, asked.input)
    decision = decide_without_identity(priced.estimate_sats)
    view = EstimateView(
        work=asked.work,
        estimate_sats=priced.estimate_sats,
        serve=decision.serve.value,
        absorb_sats=decision.absorb_sats,
        charge_sats=decision.charge_sats,
        reason=decision.reason,
    )
    return json_response(view.wire())


async def create_job(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    asked, raw = await read_model(request, JobRequest)
    key = idempotency.checked_key(request.headers.get(idempotency.HEADER))
    priced = await price(gateway.catalogue, asked.work, asked.input)
    if key is None:
        return await _created(gateway, await buy(gateway, request, priced, new_id(), asked.refund_to), None)
    claimed = await idempotency.claim(
        gateway.pool, scope="POST /api/jobs", key=key, body=raw, lease_s=gateway.settings.lease_s
    )
    if isinstance(claimed, idempotency.Replay):
        return json_response({**claimed.body, "token": job_token(gateway, claimed.resource_id)}, claimed.status)
    try:
        job = await buy(gateway, request, priced, claimed.resource_id, asked.refund_to, resumed=claimed.resumed)
        return await _created(gateway, job, claimed)
    except BaseException:
        await asyncio.shield(idempotency.release(gateway.pool, claimed))
        raise


async def buy(
    gateway: Gateway,
    request: web.Request,
    priced: Priced,
    job_id: str,
    refund_to: str | None = None,
    *,
    resumed: bool = False,
) -> JobView:
    """Store the job, open its invoice at LND. Raises Problem; NodeUnavailable leaves a job that can be resumed."""
    if refund_to is not None:
        await read_destination(gateway.node, refund_to, datetime.now(UTC))
    job = NewJob(
        id=job_id,
        token=job_token(gateway, job_id),
        work=priced.entry.name,
        input=priced.input,
        estimate_sats=priced.estimate_sats,
        client_address=client_address(request, gateway.settings.trusted_proxies),
        refund_to=refund_to,
        memo=gateway.memo(priced.entry.title),
    )
    planned = await _stored(gateway, job, resumed=resumed)
    if planned is None:
        return await _view(gateway, job_id)
    return await create.open_at_node(gateway.pool, gateway.node, planned)


async def _stored(gateway: Gateway, job: NewJob, *, resumed: bool) -> PlannedInvoice | None:
    if resumed:
        async with gateway.pool.acquire() as conn, conn.transaction():
            if await conn.fetchval("select true from jobs where id = $1 for no key update", job.id):
                return await create.resume_invoice(conn, job, gateway.invoice_limits)
    decision = decide_without_identity(job.estimate_sats)
    return await create.store_job(gateway.pool, job, decision, gateway.invoice_limits)


async def _created(gateway: Gateway, job: JobView, claimed: idempotency.Claim | None) -> web.Response:
    body = job.wire()
    if claimed is not None:
        await idempotency.finish(gateway.pool, claimed, 201, body)
    return json_response({**body, "token": job_token(gateway, job.id)}, 201)


def job_token(gateway: Gateway, job_id: str) -> str:
    return bearer_token(gateway.token_secret, "job", job_id)


async def _view(gateway: Gateway, job_id: str) -> JobView:
    view = await read_job(gateway.pool, job_id)
    if view is None:
        raise Problem(problems.JOB_NOT_FOUND)
    return view


async def get_job(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    return json_response((await _view(gateway, await require_job(gateway, request))).wire())


async def cancel_job(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    job_id = await require_job(gateway, request)
    return json_response((await cancel(gateway, job_id)).wire())


async def cancel(gateway: Gateway, job_id: str) -> JobView:
    """Cancel at LND first. Raises Problem (409 when it is paid or running), NodeUnavailable (nothing changed)."""
    job = await _view(gateway, job_id)
    if job.state == "expired":
        return job
    if job.state != "awaiting_work_payment":
        raise Problem(problems.JOB_NOT_CANCELABLE, f"It is {job.state.replace('_', ' ')}.")
    if not await end_unpaid.cancel_at_node(gateway.pool, gateway.node, job_id):
        gateway.sweep_wake.set()
        raise Problem(problems.JOB_NOT_CANCELABLE, "It was paid just now; the work begins.")
    job = await _view(gateway, job_id)
    if job.state == "awaiting_work_payment":
        raise NodeUnavailable("LND did not say that the invoice is cancelled")
    return job


async def refund_job(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    job_id = await require_job(gateway, request)
    asked, _ = await read_model(request, RefundRequest)
    return json_response((await refund(gateway, job_id, asked.destination)).wire(), 202)


async def refund(gateway: Gateway, job_id: str, text: str) -> JobView:
    """Claim what is owed for this invoice, or keep it until something is. Raises Problem, NodeUnavailable."""
    destination = await read_destination(gateway.node, text, datetime.now(UTC))
    if not await gateway.pool.fetchval(
        "select true from refund_attempts where payment_hash = $1 and job_id = $2",
        destination.request.payment_hash,
        job_id,
    ):
        await refuse_used(gateway.node, destination.request)
    await claim(gateway.pool, job_id, destination, gateway.fee_limit)
    gateway.refund_wake.set()
    return await _view(gateway, job_id)


async def job_events(request: web.Request) -> web.StreamResponse:
    gateway = request.app[GATEWAY]
    return await stream_job(request, gateway, await require_job(gateway, request))


async def stream_job(request: web.Request, gateway: Gateway, job_id: str) -> web.StreamResponse:
    """Server-sent events: the current state first, then each change, a comment every 15 s.

    Ends with the process, with its client, and when the database goes away: clients connect again by themselves.
    """
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    with gateway.hub.watch(job_id) as changed, contextlib.suppress(*DATABASE_AWAY):
        await response.prepare(request)
        last = ""
        while not gateway.stopping.is_set():
            changed.clear()
            view = await _view(gateway, job_id)
            text = json.dumps(view.wire(), ensure_ascii=False)
            if text != last:
                event_id = int(view.updated_at.timestamp() * 1_000_000)
                await response.write(f"event: job\nid: {event_id}\ndata: {text}\n\n".encode())
                last = text
            await _change_or_heartbeat(gateway, changed, response)
    return response


async def _change_or_heartbeat(gateway: Gateway, changed: asyncio.Event, response: web.StreamResponse) -> None:
    waits = {asyncio.create_task(changed.wait()), asyncio.create_task(gateway.stopping.wait())}
    try:
        done, _ = await asyncio.wait(waits, timeout=SSE_HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
    if not done:
        await response.write(b": still here\n\n")
