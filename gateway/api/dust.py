"""A job's dust: what is too little to be sent, given to the pool by whoever may claim it."""

from __future__ import annotations

from aiohttp import web

from gateway import problems
from gateway.api.access import Opened, open_job
from gateway.api.body import read_raw
from gateway.api.jobs import answered_once, json_response, view_of
from gateway.api.models import JobView
from gateway.context import GATEWAY, Gateway
from gateway.problems import Problem
from gateway.refunds.donate import donate_refund


async def donate_dust(request: web.Request) -> web.Response:
    """Booked at once. Raises Problem (409): nothing waits, or enough to be sent."""
    gateway = request.app[GATEWAY]
    opened = await open_job(gateway, request)

    async def answer(_: None, __: str, resumed: bool) -> JobView:
        return await _donated(gateway, opened, resumed=resumed)

    scope, raw = f"POST /api/jobs/{opened.job_id}/refund/donate", await read_raw(request)
    caller = opened.owner
    _, status, body = await answered_once(gateway, request, scope, raw, _no_input, answer, status=200, caller=caller)
    return json_response(body, status)


async def _no_input() -> None:
    """There is nothing to read or to refuse."""


async def _donated(gateway: Gateway, opened: Opened, *, resumed: bool) -> JobView:
    """An earlier try of this very call may have given already: nothing is left then, and that is its answer."""
    also = opened.use_up(again=resumed)
    try:
        await donate_refund(gateway.pool, opened.job_id, gateway.settings.refund_min_sats, also=also)
    except Problem as problem:
        if not resumed or problem.type is not problems.NOTHING_TO_REFUND:
            raise
    return await view_of(gateway, opened.job_id)
