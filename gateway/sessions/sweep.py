"""What no request looks after: requests whose process died, sessions that close, and those that nobody uses."""

from __future__ import annotations

import asyncio
import logging

from gateway.context import Gateway
from gateway.sessions import close, request
from ledger import sql
from ledger.database import DATABASE_AWAY

_q = sql.load("gateway.sessions")
log = logging.getLogger(__name__)

SWEEP_S = 2.0


async def run(gateway: Gateway) -> None:
    """Until cancelled; woken when the last request of a session that closes may have ended."""
    while True:
        gateway.session_wake.clear()
        for row in await gateway.pool.fetch(_q.closing_sessions):
            await close.finish(gateway, row["id"])
        await close.expire_idle(gateway.pool, gateway.settings.session_idle_days)
        try:
            async with asyncio.timeout(SWEEP_S):
                await gateway.session_wake.wait()
        except TimeoutError:
            continue


async def keep_holds(gateway: Gateway) -> None:
    """Until cancelled: the leases of what this process runs are renewed.

    On a connection of its own: the more requests wait for one, the more leases there are to renew.
    """
    lease_s = gateway.settings.lease_s
    async with gateway.pool.acquire() as conn:
        while True:
            await gateway.session_runs.renew_leases(conn, lease_s)
            await asyncio.sleep(min(SWEEP_S, lease_s / 3))


async def release_holds(gateway: Gateway) -> None:
    """Until cancelled. On its own, so that no node that hangs keeps holds from being released."""
    while True:
        await release_lost(gateway)
        await asyncio.sleep(min(SWEEP_S, gateway.settings.lease_s / 3))


async def release_lost(gateway: Gateway) -> list[str]:
    """What a dead process held is released, exactly once, whoever else sweeps. Answers the requests that ended here."""
    ended = []
    share = gateway.catalogue.pool.share_of_revenue
    runs = gateway.session_runs
    for row in await gateway.pool.fetch(_q.lost_requests, runs.owner, runs.ids):
        try:
            state = await request.end(gateway.pool, row["id"], None, request.LOST, gateway.rules, share)
        except DATABASE_AWAY:
            raise
        except Exception:
            log.exception("ALARM: a lost request can not be ended", extra={"request_id": row["id"]})
            continue  # it holds up no other
        if state is not None:
            ended.append(row["id"])
            log.warning("request was lost with its process, its hold is released", extra={"request_id": row["id"]})
    return ended


async def forget_results(gateway: Gateway) -> None:
    """Results that no repeated call can ask for any more."""
    await gateway.pool.execute(_q.forget_results)
