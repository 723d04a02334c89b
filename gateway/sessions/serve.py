"""A request from its price to its answer: hold, run the worker in this process, debit; the whole of it shielded.

A client that goes away changes nothing: the run is finished and metered. No call to LND stands in a transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from gateway import problems
from gateway.api.models import SessionResultView
from gateway.context import Gateway
from gateway.execution.call import call_worker
from gateway.execution.patience import recorded, within_grace
from gateway.execution.queue import HandBack
from gateway.jobs.create import open_unattached
from gateway.jobs.view import open_invoice_view
from gateway.problems import Problem
from gateway.sessions import request
from gateway.sessions.decisions import SessionState
from gateway.sessions.request import LOST, Asked, Ending, Uncovered
from gateway.sessions.view import result_view
from gateway.work.worker import Done, WorkOrder
from ledger import sql
from lightning.types import NodeUnavailable

_q = sql.load("gateway.sessions")
log = logging.getLogger(__name__)

GRACE_S = 1.5
"""When the process stops: shorter than the server's own grace, so that nobody is charged for an answer that he can
not be given any more."""


async def serve_request(gateway: Gateway, asked: Asked, *, resumed: bool) -> SessionResultView:
    """The answer, or the same one again. Raises Problem: not covered (402), failed (502), still running (409)."""
    if resumed and (known := await known_answer(gateway, asked.id)) is not None:
        return known

    async def run() -> Ending:
        order = WorkOrder(asked.id, asked.priced.entry, asked.priced.input, asked.estimate_sats, attempt=1)
        return await call_worker(gateway.workers.get(asked.priced.entry.name), order, gateway.settings.work_timeout_s)

    return await gateway.session_runs.ended(asked.id, serve_run(gateway, asked, run))


async def known_answer(gateway: Gateway, request_id: str) -> SessionResultView | None:
    """Of a request that an earlier call began; None: it never did. Raises Problem as that call would."""
    row = await gateway.pool.fetchrow(_q.request, request_id)
    if row is None:
        return None
    if row["state"] == "running":
        raise request.still_running()
    if row["state"] == "failed":
        raise Problem(problems.WORK_FAILED, row["failure_reason"], {"id": request_id})
    return result_view(row)


async def serve_run(gateway: Gateway, asked: Asked, run: Callable[[], Awaitable[Ending]]) -> SessionResultView:
    """Hold, `run`, debit. Raises Problem as `serve_request` does; to be shielded by the caller."""
    uncovered = await request.begin(gateway.pool, asked, gateway.rules)
    if uncovered is not None:
        raise await _not_covered(gateway, asked, uncovered)
    gateway.hub.tell(asked.session_id)
    ending = await _run(gateway, run)
    share = gateway.catalogue.pool.share_of_revenue
    try:
        state = await recorded(
            lambda: request.end(gateway.pool, asked.id, asked.owner, ending, gateway.rules, share), gateway.stopping
        )
    except HandBack:
        raise Problem(problems.DATABASE_UNAVAILABLE, "The gateway stops. Nothing will be charged.") from None
    if state is SessionState.CLOSING:
        gateway.session_wake.set()
    gateway.hub.tell(asked.session_id)
    end = ("complete" if isinstance(ending, Done) else "failed") if state is not None else "late"
    gateway.metrics.works.labels(asked.priced.entry.name, end).inc()
    log.info("request ended: %s", end, extra={"request_id": asked.id, "work": asked.priced.entry.name})
    answer = await known_answer(gateway, asked.id)
    if answer is None:
        raise RuntimeError("a request vanished: rows are never deleted")
    return answer


async def _run(gateway: Gateway, run: Callable[[], Awaitable[Ending]]) -> Ending:
    async def work() -> Ending:
        async with gateway.session_runs.slots:
            return await run()

    try:
        return await within_grace(work(), gateway.stopping, GRACE_S)
    except HandBack:
        return LOST


async def _not_covered(gateway: Gateway, asked: Asked, uncovered: Uncovered) -> Problem:
    """402: what is missing, and an invoice for it, if the node gives one now."""
    extra: dict[str, Any] = {
        "estimateSats": asked.estimate_sats,
        "balanceSats": uncovered.balance_sats,
        "missingSats": uncovered.missing_sats,
    }
    if uncovered.topup is not None:
        try:
            invoice = await open_unattached(gateway.pool, gateway.node, uncovered.topup)
            extra["invoice"] = open_invoice_view(invoice).wire()
        except NodeUnavailable as error:
            log.info("no top-up invoice for a refused request: %s", error)
    detail = (
        f"The request may cost {asked.estimate_sats} sats, {uncovered.balance_sats} can be spent. Top up and repeat."
    )
    return Problem(problems.BALANCE_TOO_LOW, detail, extra)
