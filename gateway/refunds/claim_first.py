"""The first claim on a job, which is what most are: one look before LND is asked, one statement after.

Everything else (a session's debt, another destination after a failure, a budget that is nearly used up, a signed
call) is claimed under its locks step by step (`claim`). The statement looks again under the same locks, and writes
nothing if anything is otherwise than it was seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from gateway.ids import new_id
from gateway.refunds.claim import UseUp, below_minimum, claim, on_file_after
from gateway.refunds.destination import Destination
from gateway.refunds.fees import LOCK_ID, FeeLimit, FeesToday, grant_fee
from ledger import sql
from ledger.database import Pool, from_jsonb

_q = sql.load("gateway.refunds")
NOTHING_COUNTED = FeesToday(0, 0)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is owed to an owner before a claim, nothing locked."""

    claimant: str | None
    """Whose attempt has the invoice's payment hash."""
    changed_at: datetime | None
    """When the job changed last; None: a session, or nobody."""
    pending: dict[str, int]
    """Sats by refund."""
    was_claimed: bool
    """There is an attempt of it, whatever became of that."""


async def look(pool: Pool, job_id: str, payment_hash: bytes) -> Seen:
    row = await pool.fetchrow(_q.seen_before_claim, job_id, payment_hash)
    if row is None:
        raise RuntimeError("what is seen before a claim is one row")
    return Seen(row["claimant"], row["changed_at"], dict(from_jsonb(row["pending"]) or []), row["was_claimed"])


def is_first(seen: Seen, destination: Destination, min_sats: int) -> bool:
    """Whether this claims all that is pending, for the first time, and nothing speaks against it. Pure."""
    if seen.changed_at is None or seen.claimant is not None or seen.was_claimed or not seen.pending:
        return False
    owed_sats = sum(seen.pending.values())
    return (
        destination.refund_ids in (None, frozenset(seen.pending))
        and destination.request.amount_msat in (0, owed_sats * 1000)
        and below_minimum(owed_sats, min_sats) is None
    )


async def claim_seen(
    pool: Pool,
    job_id: str,
    destination: Destination,
    fee_limit: FeeLimit,
    min_sats: int,
    seen: Seen,
    *,
    also: UseUp | None = None,
) -> None:
    """As `claim`, which decides if this is no first claim, or is none any more. Raises Problem."""
    first = also is None and is_first(seen, destination, min_sats)
    if not first or not await _pinned(pool, job_id, destination, fee_limit, seen):
        await claim(pool, job_id, destination, fee_limit, min_sats, also=also)


async def _pinned(pool: Pool, job_id: str, destination: Destination, fee_limit: FeeLimit, seen: Seen) -> bool:
    """False: nothing was written."""
    request, owed_sats = destination.request, sum(seen.pending.values())
    usual = grant_fee(fee_limit, owed_sats, NOTHING_COUNTED)
    if usual.bound is not None:
        return False
    try:
        pinned = await pool.fetchval(
            _q.pin_first,
            new_id(),
            job_id,
            destination.text,
            request.payment_request,
            request.payment_hash,
            owed_sats,
            request.amount_msat == 0,
            usual.limit_msat,
            request.expires_at,
            request.destination,
            usual.day_budget_msat,
            list(seen.pending),
            seen.changed_at,
            LOCK_ID,
            usual.payee_budget_msat,
            on_file_after(destination.text),
        )
    except asyncpg.UniqueViolationError:
        return False
    return pinned is not None
