"""The handlers of jobs: from the request to a use case and back. No money is decided here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from aiohttp import web

from gateway import idempotency, problems
from gateway.api.access import client_address, open_job, require_job, seen_job
from gateway.api.body import read_model
from gateway.api.caps import refuse_above_cap
from gateway.api.events import Moment, stream
from gateway.api.models import (
    EstimateRequest,
    EstimateView,
    JobRequest,
    JobView,
    Model,
    ReceiptKeyView,
    RefundRequest,
    SignedReceiptView,
)
from gateway.context import GATEWAY, Gateway
from gateway.identity import Caller, identify, record_event, record_event_again
from gateway.ids import bearer_token, new_id
from gateway.jobs import create, end_unpaid
from gateway.jobs.create import Also, Creation, NewJob, PlannedInvoice, Sale
from gateway.jobs.gate import dry_run
from gateway.jobs.price import Priced, price
from gateway.jobs.receipt import ENDED, read_receipt, receipt_pubkey, signed
from gateway.jobs.view import job_view
from gateway.problems import Problem
from gateway.refunds.claim import UseUp, keep_address, owed_on
from gateway.refunds.claim_first import claim_seen, look
from gateway.refunds.destination import NOTHING_OWED, Destination, refuse_used, resolve_destination
from gateway.refunds.lnurl import is_address
from ledger.free_tier import Serve
from lightning.types import NodeUnavailable

P = TypeVar("P")

UNPAID = ("awaiting_eval_payment", "awaiting_work_payment")


def json_response(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(body, ensure_ascii=False).encode(),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


async def estimate(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    asked, raw = await read_model(request, EstimateRequest)
    caller = await identify(gateway, request, raw)
    priced = await price(gateway.catalogue, asked.work, asked.input)
    address = client_address(request, gateway.settings.trusted_proxies)
    decision = await dry_run(gateway, caller.pubkey if caller else None, address, priced)
    view = EstimateView(
        work=asked.work,
        estimate_sats=priced.estimate_sats,
        serve=decision.serve.value,
        absorb_sats=decision.absorb_sats,
        charge_sats=decision.charge_sats,
        reason=decision.reason,
        evaluation_fee_sats=priced.entry.evaluation_fee_sats,
    )
    return json_response(view.wire())


async def create_job(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    asked, raw = await read_model(request, JobRequest)
    caller = await identify(gateway, request, raw)
    pubkey = caller.pubkey if caller else None
    also = using_up(caller)

    async def prepare() -> Priced:
        priced = await price(gateway.catalogue, asked.work, asked.input)
        refuse_above_cap(request, priced, asked.max_sats)
        return priced

    async def answer(priced: Priced, job_id: str, resumed: bool) -> JobView:
        return await buy(gateway, request, priced, job_id, asked.refund_to, resumed=resumed, pubkey=pubkey, also=also)

    scope = f"POST /api/jobs {pubkey}" if pubkey else "POST /api/jobs"
    job_id, status, body = await answered_once(gateway, request, scope, raw, prepare, answer, status=201, caller=caller)
    return json_response({**body, "token": job_token(gateway, job_id)}, status)


def using_up(caller: Caller | None) -> Also | None:
    """The signed event of a caller, if it came with one, to be used up in the transaction of what it asks for."""
    if caller is None or caller.event_id is None:
        return None
    return Also(caller.event_id, lambda conn: record_event(conn, caller))


async def answered_once(
    gateway: Gateway,
    request: web.Request,
    scope: str,
    raw: bytes,
    prepare: Callable[[], Awaitable[P]],
    answer: Callable[[P, str, bool], Awaitable[Model]],
    *,
    status: int,
    caller: Caller | None = None,
) -> tuple[str, int, dict[str, Any]]:
    """`(resource id, status, body)` of a request, the kept one when its `Idempotency-Key` was answered before.

    `prepare` refuses bad input before anything is written. `answer` gets what it made of the input, the resource's
    id, and whether an earlier claimant may have made that already. A kept answer uses up the event of `caller`, too,
    and is given also to the event that the request first came with: a retry is sent again as it was.
    Raises Problem, NodeUnavailable; the key is then free for the retry.
    """
    key = idempotency.checked_key(request.headers.get(idempotency.HEADER))
    if key is None:
        resource_id = new_id()
        return resource_id, status, (await answer(await prepare(), resource_id, False)).wire()
    kept = await idempotency.replay(gateway.pool, scope=scope, key=key, body=raw)
    if kept is not None:
        return await _replayed(gateway, kept, caller)
    prepared = await prepare()
    claimed = await idempotency.claim(gateway.pool, scope=scope, key=key, body=raw, lease_s=gateway.settings.lease_s)
    if isinstance(claimed, idempotency.Replay):
        return await _replayed(gateway, claimed, caller)
    try:
        body = (await answer(prepared, claimed.resource_id, claimed.resumed)).wire()
        await idempotency.finish(gateway.pool, claimed, status, body)
    except BaseException:
        await asyncio.shield(idempotency.release(gateway.pool, claimed))
        raise
    return claimed.resource_id, status, body


async def _replayed(
    gateway: Gateway, kept: idempotency.Replay, caller: Caller | None
) -> tuple[str, int, dict[str, Any]]:
    if caller is not None and caller.event_id is not None:
        async with gateway.pool.acquire() as conn, conn.transaction():
            await record_event_again(conn, caller)
    return kept.resource_id, kept.status, kept.body


async def buy(
    gateway: Gateway,
    request: web.Request,
    priced: Priced,
    job_id: str,
    refund_to: str | None = None,
    *,
    resumed: bool = False,
    pubkey: str | None = None,
    also: Also | None = None,
) -> JobView:
    """Store the job, open its invoice at LND. Raises Problem; NodeUnavailable leaves a job that can be resumed."""
    if refund_to is not None:
        await _destination(gateway, refund_to)
    job = NewJob(
        id=job_id,
        token=job_token(gateway, job_id),
        work=priced.entry.name,
        input=priced.input,
        estimate_sats=priced.estimate_sats,
        client_address=client_address(request, gateway.settings.trusted_proxies),
        refund_to=refund_to,
        memo=gateway.memo(priced.entry.title),
        pubkey=pubkey,
        evaluation_fee_sats=priced.entry.evaluation_fee_sats,
    )
    planned = await _stored(gateway, job, resumed=resumed, also=also)
    if planned is None:
        return await view_of(gateway, job_id)
    opened = await create.open_with_others(gateway.openings, gateway.node, planned)
    if opened.evaluation is not None:
        # What was answered is a job that owes nothing yet; one that was evaluated before this retry may owe by now.
        return await view_of(gateway, job_id)
    if opened.serve == Serve.GATE.value:
        gateway.plain_invoices.opened(planned.payment_hash, job_id, planned.amount_msat)
    return opened


async def _stored(gateway: Gateway, job: NewJob, *, resumed: bool, also: Also | None) -> PlannedInvoice | None:
    """What is to be opened at LND; None: nothing, the job is there as it should be. Raises Problem."""
    if resumed and await gateway.pool.fetchval("select true from jobs where id = $1", job.id):
        return await _resumed(gateway, job, also)
    gateway.open_invoices.refuse_above(gateway.settings.open_invoices_total)
    asked = Creation(job, gateway.invoice_limits, also)
    sale: Sale | None = await gateway.plain_sales.submit(asked) if asked.is_plain else None
    if sale is None:
        sale = await gateway.sales.submit(asked)
    if isinstance(sale, Problem):
        raise sale
    if sale.stood:
        return await _resumed(gateway, job, also)
    if sale.planned is not None:
        gateway.open_invoices.opened()
    return sale.planned


async def _resumed(gateway: Gateway, job: NewJob, also: Also | None) -> PlannedInvoice | None:
    """The job stands already (an interrupted request, a commit of unknown outcome): go on where that one stopped."""
    async with gateway.pool.acquire() as conn, conn.transaction():
        if also is not None:
            await also.run_again(conn)
        await conn.execute("select from jobs where id = $1 for no key update", job.id)
        return await create.resume_invoice(conn, job, gateway.invoice_limits)


def job_token(gateway: Gateway, job_id: str) -> str:
    return bearer_token(gateway.token_secret, "job", job_id)


async def view_of(gateway: Gateway, job_id: str) -> JobView:
    """Raises Problem (404)."""
    row = await gateway.job_rows.submit(job_id)
    if row is None:
        raise Problem(problems.JOB_NOT_FOUND)
    return job_view(row, gateway.settings.refund_min_sats)


async def get_job(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    row = await seen_job(gateway, request)
    return json_response(job_view(row, gateway.settings.refund_min_sats).wire())


async def job_receipt(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    return json_response((await receipt_of(gateway, await require_job(gateway, request))).wire())


async def receipt_of(gateway: Gateway, job_id: str) -> SignedReceiptView:
    """Raises Problem: the job has not ended."""
    job = await view_of(gateway, job_id)
    if job.state not in ENDED:
        raise Problem(problems.NOT_AVAILABLE, "There is a receipt when the job has ended.")
    return signed(gateway.token_secret, await read_receipt(gateway.pool, gateway.settings.base_url, job))


async def receipt_key(request: web.Request) -> web.Response:
    pubkey = receipt_pubkey(request.app[GATEWAY].token_secret)
    return json_response(ReceiptKeyView(algorithm="BIP-340", pubkey=pubkey).wire())


async def cancel_job(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    job_id = await require_job(gateway, request)
    return json_response((await cancel(gateway, job_id)).wire())


async def cancel(gateway: Gateway, job_id: str) -> JobView:
    """Cancel at LND first. Raises Problem (409 when it is paid or running), NodeUnavailable (nothing changed)."""
    job = await view_of(gateway, job_id)
    if job.state == "expired":
        return job
    if job.state not in UNPAID:
        raise Problem(problems.JOB_NOT_CANCELABLE, f"It is {job.state.replace('_', ' ')}.")
    is_paid = not await end_unpaid.cancel_at_node(gateway.pool, gateway.node, job_id)
    if is_paid:
        gateway.sweep_wake.set()
    job = await view_of(gateway, job_id)
    if job.state in UNPAID and not is_paid:
        raise NodeUnavailable("LND did not say that the invoice is cancelled")
    if job.state != "expired":
        # LND said so, or it was booked before LND was asked, when no invoice was left to cancel.
        raise Problem(problems.JOB_NOT_CANCELABLE, "It was paid just now; the work begins.")
    return job


async def refund_job(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    opened = await open_job(gateway, request)
    job_id = opened.job_id
    asked, raw = await read_model(request, RefundRequest)

    async def prepare() -> Destination | None:
        return await _destination(gateway, asked.destination, job_id)

    async def answer(destination: Destination | None, _: str, resumed: bool) -> JobView:
        return await _refund_to(gateway, job_id, destination, asked.destination, opened.use_up(again=resumed))

    scope = f"POST /api/jobs/{job_id}/refund"
    _, status, body = await answered_once(
        gateway, request, scope, raw, prepare, answer, status=202, caller=opened.owner
    )
    return json_response(body, status)


async def refund(gateway: Gateway, job_id: str, text: str) -> JobView:
    """Claim what is owed for this invoice, or keep it until something is. Raises Problem, NodeUnavailable."""
    return await _refund_to(gateway, job_id, await _destination(gateway, text, job_id), text)


async def _destination(gateway: Gateway, text: str, job_id: str | None = None) -> Destination | None:
    """None: an address, for what may be owed later. An address is asked for what is owed on the job now."""
    owed = await owed_on(gateway.pool, job_id) if job_id and is_address(text) else NOTHING_OWED
    return await resolve_destination(gateway.node, text, owed, datetime.now(UTC), gateway.destination_rules)


async def _refund_to(
    gateway: Gateway, job_id: str, destination: Destination | None, text: str, also: UseUp | None = None
) -> JobView:
    if destination is None:
        await keep_address(gateway.pool, job_id, text, also=also)
        gateway.on_file_wake.set()
        return await view_of(gateway, job_id)
    seen = await look(gateway.pool, job_id, destination.request.payment_hash)
    if seen.claimant != job_id:
        await _refuse_others_use(gateway, job_id, destination)
    min_sats = gateway.settings.refund_min_sats
    await claim_seen(gateway.pool, job_id, destination, gateway.fee_limit, min_sats, seen, also=also)
    gateway.refund_wake.set()
    return await view_of(gateway, job_id)


async def refuse_foreign_use(gateway: Gateway, job_id: str, destination: Destination) -> None:
    """The node's payment of this hash, if any, must be this job's own attempt. Raises Problem, NodeUnavailable."""
    if not await _is_own_attempt(gateway, job_id, destination):
        await _refuse_others_use(gateway, job_id, destination)


async def _refuse_others_use(gateway: Gateway, job_id: str, destination: Destination) -> None:
    try:
        await refuse_used(gateway.node, destination.request)
    except Problem:
        # The same invoice may have been claimed and sent meanwhile; an attempt is stored before any send.
        if not await _is_own_attempt(gateway, job_id, destination):
            raise


async def _is_own_attempt(gateway: Gateway, job_id: str, destination: Destination) -> bool:
    found = await gateway.pool.fetchval(
        "select true from refund_attempts where payment_hash = $1 and job_id = $2",
        destination.request.payment_hash,
        job_id,
    )
    return bool(found)


async def job_events(request: web.Request) -> web.StreamResponse:
    return await stream_job(request, request.app[GATEWAY])


async def stream_job(request: web.Request, gateway: Gateway, *, cookie: str | None = None) -> web.StreamResponse:
    """Raises Problem (401, 404)."""
    job_id = request.match_info["id"]

    async def first() -> Moment:
        return moment(job_view(await seen_job(gateway, request, cookie=cookie), gateway.settings.refund_min_sats))

    async def now() -> Moment:
        return moment(await view_of(gateway, job_id))

    def moment(seen: JobView) -> Moment:
        return Moment(json.dumps(seen.wire(), ensure_ascii=False), seen.updated_at)

    return await stream(request, gateway, job_id, "job", now, first)
