"""Dust: a refund that is too small to be sent stays on account, until its owner gives it to the pool."""

from __future__ import annotations

from gateway import problems
from gateway.problems import Problem
from gateway.refunds.claim import UseUp
from gateway.refunds.owner import lock_owner
from ledger import book, sql, transfers
from ledger.database import Connection, Pool
from ledger.money import sats_to_msat

_q = sql.load("gateway.refunds")


async def donate_refund(pool: Pool, job_id: str, min_sats: int, *, also: UseUp | None = None) -> int:
    """All that is pending on the job, if that is less than `min_sats`: one transaction, debts become the pool's.

    Answers the sats given. `also` takes part in the transaction. Raises Problem.
    """
    async with pool.acquire() as conn, conn.transaction():
        if also is not None:
            await also(conn)
        return await _donate(conn, job_id, min_sats)


async def _donate(conn: Connection, job_id: str, min_sats: int) -> int:
    if await lock_owner(conn, job_id) is None:
        raise Problem(problems.JOB_NOT_FOUND)
    pending = await conn.fetch(_q.lock_pending, job_id)
    owed_sats = sum(int(row["amount_sats"]) for row in pending)
    refuse_not_dust(owed_sats, min_sats)
    await conn.execute(_q.donate_refunds, [row["id"] for row in pending])
    await book.post(conn, [transfers.refund_donated(row["id"], sats_to_msat(row["amount_sats"])) for row in pending])
    await conn.execute(_q.touch_job, job_id)
    return owed_sats


def refuse_not_dust(owed_sats: int, min_sats: int) -> None:
    """Nothing to give, or enough to be sent: who wants to give that takes it first. Pure. Raises Problem."""
    if not owed_sats:
        raise Problem(
            problems.NOTHING_TO_REFUND, "Everything that was owed is paid or on its way, or nothing ever was."
        )
    if owed_sats >= min_sats:
        raise Problem(problems.REFUND_NOT_DUST, f"{owed_sats} sats are owed; refunds begin at {min_sats}. Take them.")
