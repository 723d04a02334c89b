"""A destination claims everything that is pending on a job: one attempt, its payment hash committed before any send.

`job_id` names the owner of the debt: a job, or a session.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias

import asyncpg

from gateway import problems
from gateway.ids import new_id
from gateway.problems import Problem
from gateway.refunds.destination import Destination, refuse_amount
from gateway.refunds.owner import lock_owner
from ledger import sql
from ledger.database import Connection, Pool
from ledger.money import sats_to_msat

_q = sql.load("gateway.refunds")


@dataclass(frozen=True, slots=True)
class FeeLimit:
    """The larger of a base and a share of the amount, never more than the amount itself; paid by the gateway."""

    base_sats: int
    percent: Decimal

    def msat(self, amount_sats: int) -> int:
        amount_msat = sats_to_msat(amount_sats)
        return min(amount_msat, max(sats_to_msat(self.base_sats), int(amount_msat * self.percent / 100)))


UseUp: TypeAlias = Callable[[Connection], Awaitable[None]]
"""Uses up what allows this one claim, or raises Problem."""


class Claimed(StrEnum):
    STARTED = "started"
    ALREADY = "already"
    """The same invoice claims it already: the same answer again."""
    KEPT = "kept"
    """Nothing is owed yet: the destination is on file and will be paid when something is."""


async def claim(
    pool: Pool,
    job_id: str,
    destination: Destination,
    fee_limit: FeeLimit,
    min_sats: int,
    *,
    using_up: UseUp | None = None,
) -> Claimed:
    """Guarded claim of all pending refunds of the job, not less than `min_sats` in all. Raises Problem.

    `using_up` takes part in the claim's transaction; with it nothing is kept for later.
    """
    try:
        async with pool.acquire() as conn, conn.transaction():
            return await _claim(conn, job_id, destination, fee_limit, min_sats, using_up)
    except asyncpg.UniqueViolationError:
        raise Problem(problems.DESTINATION_USED, "Make a new invoice and give that. Your refund waits.") from None


async def _claim(
    conn: Connection,
    job_id: str,
    destination: Destination,
    fee_limit: FeeLimit,
    min_sats: int,
    using_up: UseUp | None,
) -> Claimed:
    job = await lock_owner(conn, job_id)
    if job is None:
        raise Problem(problems.JOB_NOT_FOUND)
    last = await conn.fetchrow(_q.last_attempt, job_id)
    request = destination.request
    pending = await conn.fetch(_q.lock_pending, job_id)
    claimant = await conn.fetchval(_q.claimant_of_hash, request.payment_hash)
    if claimant == job_id and not pending:
        return Claimed.ALREADY
    if claimant is not None:
        raise Problem(problems.DESTINATION_USED, "Make a new invoice and give that. Your refund waits.")
    if not pending and using_up is not None:
        raise Problem(
            problems.NOTHING_TO_REFUND, "Everything that was owed is paid or on its way, or nothing ever was."
        )
    if not pending:
        return await _keep(conn, job["has_ended"], job_id, destination.text, last)
    if last is not None and (last["state"] in ("unfinished", "frozen") or last["leased"]):
        raise Problem(problems.REFUND_IN_PROGRESS, "Wait until it has ended; then give another invoice if it failed.")
    owed_sats = sum(row["amount_sats"] for row in pending)
    refuse_below_minimum(owed_sats, min_sats)
    refuse_amount(request, owed_sats)
    if using_up is not None:
        await using_up(conn)
    attempt_id = new_id()
    await conn.execute(
        _q.insert_attempt,
        attempt_id,
        job_id,
        destination.text,
        request.payment_request,
        request.payment_hash,
        owed_sats,
        request.amount_msat == 0,
        fee_limit.msat(owed_sats),
        request.expires_at,
    )
    await conn.execute(_q.claim_refunds, attempt_id, [row["id"] for row in pending])
    await conn.execute(_q.set_refund_to, job_id, None)
    return Claimed.STARTED


def below_minimum(owed_sats: int, min_sats: int) -> str | None:
    """Plain words, or None: it is enough. Pure."""
    if owed_sats >= min_sats:
        return None
    return f"Refunds begin at {min_sats} sats; {owed_sats} are owed. They stay on account here, as yours."


def refuse_below_minimum(owed_sats: int, min_sats: int) -> None:
    """Pure. Raises Problem."""
    if why := below_minimum(owed_sats, min_sats):
        raise Problem(problems.REFUND_BELOW_MINIMUM, why, {"refundMinSats": min_sats})


async def owed_sats(pool: Pool, job_id: str) -> int:
    """What waits for a destination now; the claim looks again, under its lock."""
    return int(await pool.fetchval(_q.owed_sats, job_id))


async def keep_address(pool: Pool, job_id: str, text: str) -> Claimed:
    """An address for what may be owed later: on file, asked when something is. Raises Problem."""
    async with pool.acquire() as conn, conn.transaction():
        job = await lock_owner(conn, job_id)
        if job is None:
            raise Problem(problems.JOB_NOT_FOUND)
        if await conn.fetch(_q.lock_pending, job_id):
            await conn.execute(_q.set_refund_to, job_id, text)
            return Claimed.KEPT
        last = await conn.fetchrow(_q.last_attempt, job_id)
        return await _keep(conn, job["has_ended"], job_id, text, last)


async def _keep(conn: Connection, has_ended: bool, job_id: str, text: str, last: asyncpg.Record | None) -> Claimed:
    if has_ended and last is not None and last["state"] in ("unfinished", "frozen"):
        raise Problem(problems.REFUND_IN_PROGRESS, "Wait until it has ended; then give another invoice if it failed.")
    if has_ended:
        raise Problem(problems.NOTHING_TO_REFUND, "Everything that was owed is paid, or nothing ever was.")
    await conn.execute(_q.set_refund_to, job_id, text)
    return Claimed.KEPT


async def jobs_with_destination(pool: Pool, min_sats: int) -> list[tuple[str, str]]:
    """`(job id, destination)` of jobs that owe `min_sats` or more and know where to."""
    return [(row["id"], row["refund_to"]) for row in await pool.fetch(_q.due_on_file, min_sats)]


async def reject_on_file(pool: Pool, job_id: str, destination: str, why: str) -> None:
    """The destination on file can not be used: say why; the refund waits for another."""
    await pool.execute(_q.reject_on_file, job_id, destination, why)
