"""A new invoice for an unpaid job: the same work on the same input as a new job, priced now. The old one ends first.

A payment of the old invoice that arrives all the same is a late one, owed back in full like any other.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from gateway import problems
from gateway.api.access import client_address
from gateway.api.jobs import UNPAID, buy, cancel
from gateway.api.models import JobView
from gateway.context import GATEWAY, Gateway
from gateway.idempotency import Claim
from gateway.jobs import slowing
from gateway.jobs.price import Priced, price
from gateway.pages.login import page_identity
from gateway.pages.once import once_awaited
from gateway.problems import Problem, ProblemType
from gateway.refunds.destination import NOTHING_OWED, resolve_destination
from ledger import sql
from ledger.database import from_jsonb
from ledger.grants import address_subject

_q = sql.load("gateway.pages", "again.sql")

SCOPE = "POST /jobs/again page"
ORDER_ANEW = ProblemType("order_anew", 409, "This has to be ordered anew")


def may_be_renewed(job: JobView) -> bool:
    """Nothing was paid for it that ending it would lose: a look that was paid for is kept for this very job. Pure."""
    looked_at = job.evaluation is not None and job.evaluation.outcome == "accepted"
    return job.state == "expired" or (job.state in UNPAID and not looked_at)


async def is_offered(gateway: Gateway, job: JobView) -> bool:
    """Whether the page has the button: the work is still sold, and what was given for it is still here."""
    if not may_be_renewed(job) or gateway.catalogue.find(job.work) is None:
        return False
    return job.state != "expired" or bool((await _ordered(gateway, job.id))["is_kept"])


async def _ordered(gateway: Gateway, job_id: str) -> Any:
    """The row of a job that exists."""
    return await gateway.pool.fetchrow(_q.order_of_job, job_id)


async def renewed(request: web.Request, job: JobView) -> str:
    """The new job's id, the same one for a day however often it is asked for.

    The job's own id: it is paid, it runs, or it ended otherwise, so nothing new was made. Raises Problem,
    NodeUnavailable: nothing new either; the same button goes on from there.
    """
    if not may_be_renewed(job):
        return job.id
    gateway = request.app[GATEWAY]

    async def make(claimed: Claim) -> None:
        await _make(request, gateway, job.id, claimed)

    try:
        return await once_awaited(gateway, SCOPE, f"again:{job.id}", job.id.encode(), make)
    except Problem as problem:
        if problem.type is not problems.JOB_NOT_CANCELABLE:
            raise
        return job.id


async def _make(request: web.Request, gateway: Gateway, old_id: str, claimed: Claim) -> None:
    """What would refuse the new job is asked before the old one is ended."""
    ordered = await _ordered(gateway, old_id)
    priced = await _priced(gateway, ordered)
    pubkey = await page_identity(gateway, request)
    await _refuse_slowed(request, gateway, pubkey)
    refund_to = await _refund_to(gateway, ordered["refund_to"])
    await cancel(gateway, old_id)
    await buy(gateway, request, priced, claimed.resource_id, refund_to, resumed=claimed.resumed, pubkey=pubkey)


async def _priced(gateway: Gateway, ordered: Any) -> Priced:
    """Raises Problem."""
    if not ordered["is_kept"]:
        raise Problem(ORDER_ANEW, "What you gave for this job is not kept any more.")
    try:
        return await price(gateway.catalogue, ordered["work"], from_jsonb(ordered["input"]))
    except Problem as problem:
        if problem.type is problems.INVALID_INPUT:
            raise Problem(ORDER_ANEW, "The work takes other input by now.") from None
        raise


async def _refuse_slowed(request: web.Request, gateway: Gateway, pubkey: str | None) -> None:
    """Raises Problem."""
    address = client_address(request, gateway.settings.trusted_proxies)
    async with gateway.pool.acquire() as conn:
        waits_s = await slowing.pauses(conn, [one for one in (address_subject(address), pubkey) if one])
    if waits_s:
        raise slowing.slowed(max(waits_s.values()))


async def _refund_to(gateway: Gateway, refund_to: str | None) -> str | None:
    """The old job's destination, if it can still be one; without it the payer is asked when something is owed.

    Raises NodeUnavailable.
    """
    if refund_to is None:
        return None
    try:
        await resolve_destination(gateway.node, refund_to, NOTHING_OWED, datetime.now(UTC), gateway.destination_rules)
    except Problem:
        return None
    return refund_to
