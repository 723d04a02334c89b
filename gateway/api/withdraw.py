"""LNURL-withdraw: the job's code for its owner, and the two calls of a wallet that scanned it (LUD-03, LUD-14)."""

from __future__ import annotations

import functools
import hmac
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from aiohttp import web

from gateway import problems
from gateway.api.access import require_job
from gateway.api.jobs import json_response, refuse_foreign_use
from gateway.api.l402 import require_owner
from gateway.api.models import LnurlStatusView, RefundLnurlView, WithdrawRequestView
from gateway.api.session_calls import require_refund_key
from gateway.context import GATEWAY, Gateway
from gateway.problems import Problem
from gateway.refunds import withdraw
from gateway.refunds.claim import claim
from gateway.refunds.destination import read_destination
from ledger.database import DATABASE_AWAY
from ledger.money import sats_to_msat
from lightning.types import NodeUnavailable

REFUND_KEY = "X-Refund-Key"
"""Of a session: whoever has the code can fetch what is owed, so the token alone does not get it."""

Handler = Callable[[web.Request], Awaitable[web.Response]]


def lud_errors(handler: Handler) -> Handler:
    """Wallets read refusals as status 200 with `{"status": "ERROR", "reason": …}`."""

    @functools.wraps(handler)
    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except Problem as problem:
            reason = f"{problem.type.title}. {problem.detail}".strip()
        except (NodeUnavailable, *DATABASE_AWAY):
            reason = "The gateway can not answer just now. Nothing was lost; try again in a moment."
        return json_response(LnurlStatusView(status="ERROR", reason=reason).wire())

    return answer


async def refund_lnurl(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    job_id = await require_job(gateway, request)
    return json_response((await offer(gateway, job_id)).wire())


async def session_refund_lnurl(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    session, is_whole = await require_owner(gateway, request)
    if not is_whole:
        require_refund_key(request.headers.get(REFUND_KEY), bytes(session["refund_key_hash"]))
    return json_response((await offer(gateway, session["id"])).wire())


async def offer(gateway: Gateway, job_id: str) -> RefundLnurlView:
    """Raises Problem (409)."""
    found = await withdraw.offer(gateway.pool, gateway.token_secret, job_id, gateway.settings.refund_min_sats)
    url = _url(gateway, found.k1)
    return RefundLnurlView(
        lnurl=withdraw.lnurl_of(url), url=url, amount_sats=found.amount_sats, expires_at=found.expires_at
    )


@lud_errors
async def withdraw_request(request: web.Request) -> web.Response:
    """What the wallet may fetch: exactly what is owed. The same address serves as balance check."""
    gateway = request.app[GATEWAY]
    k1 = request.match_info["k1"]
    owed_msat = sats_to_msat(await withdraw.owed_on(gateway.pool, k1, gateway.settings.refund_min_sats))
    url = _url(gateway, k1)
    view = WithdrawRequestView(
        tag="withdrawRequest",
        callback=f"{url}/pay",
        k1=k1,
        default_description=gateway.memo("Refund"),
        min_withdrawable=owed_msat,
        max_withdrawable=owed_msat,
        balance_check=url,
    )
    return json_response(view.wire())


@lud_errors
async def withdraw_pay(request: web.Request) -> web.Response:
    """Claims what is owed for the wallet's invoice; OK once it will be paid. Repeated, the answer is the same."""
    gateway = request.app[GATEWAY]
    k1 = request.match_info["k1"]
    if not hmac.compare_digest(k1.encode(errors="surrogateescape"), _query(request, "k1")):
        raise Problem(problems.WITHDRAWAL_INVALID, "The k1 is not the one of this address.")
    job_id = await withdraw.job_of(gateway.pool, k1, may_be_used=True)
    invoice = _query(request, "pr").decode(errors="replace")[:4096]
    destination = await read_destination(gateway.node, invoice, datetime.now(UTC), gateway.destination_rules)
    await refuse_foreign_use(gateway, job_id, destination)
    await claim(
        gateway.pool,
        job_id,
        destination,
        gateway.fee_limit,
        gateway.settings.refund_min_sats,
        using_up=withdraw.using_up(k1, job_id),
    )
    gateway.refund_wake.set()
    return json_response(LnurlStatusView(status="OK").wire())


def _query(request: web.Request, name: str) -> bytes:
    return request.query.get(name, "").encode(errors="surrogateescape")


def _url(gateway: Gateway, k1: str) -> str:
    return f"{gateway.settings.base_url}/lnurl/withdraw/{k1}"
