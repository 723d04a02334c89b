"""A destination claims everything that is pending on a job: one attempt, its payment hash committed before any send.

`job_id` names the owner of the debt: a job, or a session.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import asyncpg

from gateway import problems
from gateway.ids import new_id
from gateway.problems import Problem
from gateway.refunds.decisions import GiveUp
from gateway.refunds.destination import Destination, Owed, refuse_amount
from gateway.refunds.fees import LOCK_ID, FeeGrant, FeeLimit, FeesToday, grant_fee
from gateway.refunds.lnurl import is_address
from gateway.refunds.owner import lock_owner
from ledger import sql
from ledger.database import Connection, Pool, from_jsonb

_q = sql.load("gateway.refunds")

ASKED_SOON_S = 60.0
"""An address whose invoice expired before anything was sent."""
GAVE_WAY = "Another destination was given."


UseUp: TypeAlias = Callable[[Connection], Awaitable[None]]
"""Uses up what allows this one call (a withdrawal code, a signed event) in its transaction, or raises Problem."""


class Claimed(StrEnum):
    STARTED = "started"
    ALREADY = "already"
    """The same invoice, or the address on file, claims it already: the same answer again."""
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
    also: UseUp | None = None,
    from_file: bool = False,
) -> Claimed:
    """Guarded claim of the job's pending refunds, not less than `min_sats` in all: of all, but an address's invoice
    only of those that it was asked for. Raises Problem.

    `using_up` and `also` take part in the transaction: `using_up` only in a claim, and with it nothing is kept for
    later; `also` first, whatever comes of it. `from_file`: only if its owner has not said otherwise meanwhile.
    """
    try:
        async with pool.acquire() as conn, conn.transaction():
            if also is not None:
                await also(conn)
            return await _claim(conn, job_id, destination, fee_limit, min_sats, using_up, from_file)
    except asyncpg.UniqueViolationError:
        raise Problem(problems.DESTINATION_USED, "Make a new invoice and give that. Your refund waits.") from None


async def _claim(
    conn: Connection,
    job_id: str,
    destination: Destination,
    fee_limit: FeeLimit,
    min_sats: int,
    using_up: UseUp | None,
    from_file: bool,
) -> Claimed:
    job = await lock_owner(conn, job_id)
    if job is None:
        raise Problem(problems.JOB_NOT_FOUND)
    if from_file and job["refund_to"] != destination.text:
        raise Problem(problems.REFUND_IN_PROGRESS, "Another destination was given meanwhile.")
    request = destination.request
    facts = await _facts(conn, job_id, request.payment_hash, ends_waiting=not from_file)
    pending, last = facts.pending, facts.last
    if facts.claimant == job_id and not pending:
        return Claimed.ALREADY
    if facts.claimant is not None:
        raise Problem(problems.DESTINATION_USED, "Make a new invoice and give that. Your refund waits.")
    if not pending and using_up is not None:
        raise Problem(
            problems.NOTHING_TO_REFUND, "Everything that was owed is paid or on its way, or nothing ever was."
        )
    if not pending:
        return await _keep(conn, job, job_id, destination.text, last)
    if last is not None and (last["state"] in ("unfinished", "frozen") or last["leased"]):
        raise Problem(problems.REFUND_IN_PROGRESS, "Wait until it has ended; then give another invoice if it failed.")
    taken = {id: sats for id, sats in pending if destination.refund_ids is None or id in destination.refund_ids}
    refuse_changed(destination, len(taken))
    owed_sats = sum(taken.values())
    refuse_below_minimum(owed_sats, min_sats)
    refuse_amount(request, owed_sats)
    if using_up is not None:
        await using_up(conn)
    await _pin(conn, job_id, destination, owed_sats, list(taken), fee_limit)
    return Claimed.STARTED


@dataclass(frozen=True, slots=True)
class Facts:
    """What a claim decides on, under its owner's lock."""

    claimant: str | None
    """Whose attempt has the invoice's payment hash, which belongs to one for ever."""
    last: asyncpg.Record | None
    """The owner's newest attempt."""
    pending: list[tuple[str, int]]
    """Refunds that wait, `(id, sats)`; locked."""


async def _facts(conn: Connection, job_id: str, payment_hash: bytes, *, ends_waiting: bool) -> Facts:
    """`ends_waiting`: an attempt that only waits for its next send fails finally, and its refunds are pending again."""
    row = await conn.fetchrow(_q.claim_facts, job_id, payment_hash)
    if row is None:
        raise RuntimeError("a claim's facts are one row")
    last = row if row["id"] is not None else None
    gives_way = last is not None and last["between_sends"] and ends_waiting and row["claimant"] is None
    if gives_way and await conn.fetchval(_q.give_way, row["id"], GAVE_WAY):
        await conn.execute(_q.refunds_pending_again, row["id"])
        return await _facts(conn, job_id, payment_hash, ends_waiting=False)
    return Facts(row["claimant"], last, from_jsonb(row["pending"]) or [])


def refuse_changed(destination: Destination, still_pending: int) -> None:
    """What an address was asked for was partly or wholly claimed meanwhile by somebody else. Pure. Raises Problem."""
    if destination.refund_ids is not None and still_pending != len(destination.refund_ids):
        raise Problem(problems.REFUND_IN_PROGRESS, "What is owed changed while the address was asked. Give it again.")


def on_file_after(claimed: str) -> str | None:
    """What is on file after a claim: an address for later debts; an invoice is used up. The last word counts. Pure."""
    return claimed if is_address(claimed) else None


async def _pin(
    conn: Connection, job_id: str, destination: Destination, amount_sats: int, refund_ids: list[str], rule: FeeLimit
) -> None:
    """The attempt, with its share of the day's fee budget: granted under a lock that only this and the commit hold."""
    request, attempt_id = destination.request, new_id()
    grant = await _granted(conn, destination, amount_sats, rule)
    claimed = await conn.execute(
        _q.pin,
        attempt_id,
        job_id,
        destination.text,
        request.payment_request,
        request.payment_hash,
        amount_sats,
        request.amount_msat == 0,
        grant.limit_msat,
        request.expires_at,
        request.destination,
        grant.bound,
        grant.day_budget_msat,
        grant.payee_budget_msat,
        refund_ids,
        on_file_after(destination.text),
    )
    if claimed != f"UPDATE {len(refund_ids)}":
        raise RuntimeError("a refund that was locked while it was pending was claimed meanwhile")


async def _granted(conn: Connection, destination: Destination, amount_sats: int, rule: FeeLimit) -> FeeGrant:
    today = await conn.fetchrow(_q.fees_counted, LOCK_ID, destination.request.destination)
    if today is None:
        raise RuntimeError("an aggregate answers one row")
    return grant_fee(rule, amount_sats, FeesToday(today["all_msat"], today["payee_msat"]))


def below_minimum(owed_sats: int, min_sats: int) -> str | None:
    """Plain words, or None: it is enough. Pure."""
    if owed_sats >= min_sats:
        return None
    return f"Refunds begin at {min_sats} sats; {owed_sats} are owed. They stay on account here, as yours."


def refuse_below_minimum(owed_sats: int, min_sats: int) -> None:
    """Pure. Raises Problem."""
    if why := below_minimum(owed_sats, min_sats):
        raise Problem(problems.REFUND_BELOW_MINIMUM, why, {"refundMinSats": min_sats})


async def owed_on(pool: Pool, job_id: str) -> Owed:
    """What waits for a destination now; the claim looks again, under its lock."""
    rows = await pool.fetch(_q.owed, job_id)
    return Owed(frozenset(row["id"] for row in rows), sum(row["amount_sats"] for row in rows))


async def keep_address(pool: Pool, job_id: str, text: str, *, also: UseUp | None = None) -> Claimed:
    """An address for what may be owed later: on file, asked when something is. Raises Problem."""
    async with pool.acquire() as conn, conn.transaction():
        if also is not None:
            await also(conn)
        job = await lock_owner(conn, job_id)
        if job is None:
            raise Problem(problems.JOB_NOT_FOUND)
        if await conn.fetch(_q.lock_pending, job_id):
            await conn.execute(_q.set_refund_to, job_id, text)
            return Claimed.KEPT
        last = await conn.fetchrow(_q.last_attempt, job_id)
        return await _keep(conn, job, job_id, text, last)


async def _keep(conn: Connection, job: Any, job_id: str, text: str, last: asyncpg.Record | None) -> Claimed:
    has_ended = job["has_ended"]
    if has_ended and last is not None and job["refund_to"] == last["destination"] == text:
        return Claimed.ALREADY
    if has_ended and last is not None and last["state"] in ("unfinished", "frozen"):
        raise Problem(problems.REFUND_IN_PROGRESS, "Wait until it has ended; then give another invoice if it failed.")
    if has_ended:
        raise Problem(problems.NOTHING_TO_REFUND, "Everything that was owed is paid, or nothing ever was.")
    await conn.execute(_q.set_refund_to, job_id, text)
    return Claimed.KEPT


async def due_on_file(
    pool: Pool | Connection, min_sats: int, but: Sequence[str] = (), most: int = 100
) -> list[tuple[str, str]]:
    """`(owner, destination)` of those who are owed `min_sats` or more and said where to: `most`, none of `but`."""
    rows = await pool.fetch(_q.due_on_file, min_sats, list(but), most)
    return [(row["id"], row["refund_to"]) for row in rows]


async def ask_later(pool: Pool, owner_id: str, destination: str, delay_s: float) -> None:
    """The destination on file does not answer now: nothing is said against it."""
    await pool.execute(_q.ask_later, owner_id, destination, delay_s)


async def reject_tried(conn: Connection, attempt_id: str, ended: GiveUp) -> None:
    """The attempt failed finally: an address that is still on file says why, and is asked again when `ended` says."""
    await conn.execute(_q.reject_tried, attempt_id, ended.reason, ended.address_asked, ASKED_SOON_S)


async def reject_on_file(pool: Pool, job_id: str, destination: str, why: str) -> None:
    """The destination on file can not be used: say why; the refund waits for another."""
    await pool.execute(_q.reject_on_file, job_id, destination, why)
