"""Capital to the pool: a book transfer, at once."""

from __future__ import annotations

from gateway import problems
from gateway.operator.log import Actor, Logged, acting
from gateway.problems import Problem
from ledger import book, transfers
from ledger.book import CauseConflict
from ledger.database import Connection, Pool
from ledger.money import MAX_SATS, sats_to_msat


async def topup(pool: Pool, actor: Actor, amount_sats: int, cause: str) -> Logged:
    """The same cause tops up once; a repetition books nothing and says so.

    Raises Problem (409, 422): nothing was booked.
    """
    async with acting(pool, actor, "topup", "pool", f"{amount_sats} sats") as act:
        try:
            booked = await book.post(act.conn, [transfers.topup(cause, sats_to_msat(amount_sats))])
        except CauseConflict:
            raise Problem(problems.IDEMPOTENCY_KEY_REUSED, "Use a new key for a new top-up.") from None
        if booked:
            await _refuse_overfull(act.conn)
        else:
            act.outcome = "repeated"
    return act.logged


async def _refuse_overfull(conn: Connection) -> None:
    """After a posting, under its lock on the pool: more than there can be is a slip of the hand. Raises Problem."""
    held_msat = sum((await book.kept_balances(conn, (transfers.POOL, transfers.POOL_RESERVED))).values())
    if held_msat > sats_to_msat(MAX_SATS):
        raise Problem(problems.POOL_FULL, f"It holds at most {MAX_SATS} sats: there are no more. Nothing was booked.")
