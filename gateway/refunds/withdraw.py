"""LNURL-withdraw (LUD-03): a code that a wallet scans to fetch what a job or session owes. Single use, expiring.

The secret k1 is an HMAC over the row's id, so that it can be shown again though only its hash is stored.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import bech32

from gateway import problems
from gateway.ids import new_id
from gateway.problems import Problem
from gateway.refunds import claim
from gateway.refunds.claim import refuse_below_minimum
from ledger import sql
from ledger.database import Connection, Pool

_q = sql.load("gateway.refunds", "withdraw.sql")

LIFETIME_S = 86_400
SHOWN_AGAIN_S = LIFETIME_S // 2
"""A code with at least this much time left is shown again; else a new one is made."""
K1 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Withdrawal:
    k1: str
    amount_sats: int
    expires_at: datetime


def lnurl_of(url: str) -> str:
    """LUD-01, in capitals: the smallest QR code. Pure."""
    return str(bech32.bech32_encode("lnurl", bech32.convertbits(url.encode(), 8, 5))).upper()


def k1_of(token_secret: str, withdrawal_id: str) -> str:
    """Pure."""
    return hmac.new(token_secret.encode(), f"withdraw:{withdrawal_id}".encode(), hashlib.sha256).hexdigest()


def k1_hash(k1: str) -> bytes:
    """What is stored, and what is looked for. Pure."""
    return hashlib.sha256(k1.encode(errors="surrogateescape")).digest()


async def offer(pool: Pool, token_secret: str, job_id: str, min_sats: int) -> Withdrawal:
    """The code for what is owed now, on a job or a session. Raises Problem (409): nothing, too little, or under way."""
    if await pool.fetchval(_q.is_under_way, job_id):
        raise Problem(problems.REFUND_IN_PROGRESS, "Wait until it has ended.")
    owed = await _owed(pool, job_id, min_sats)
    row = await pool.fetchrow(_q.usable, job_id, SHOWN_AGAIN_S)
    if row is not None:
        return Withdrawal(k1_of(token_secret, row["id"]), owed, row["expires_at"])
    withdrawal_id = new_id()
    k1 = k1_of(token_secret, withdrawal_id)
    expires_at = await pool.fetchval(_q.insert, withdrawal_id, k1_hash(k1), job_id, LIFETIME_S)
    return Withdrawal(k1, owed, expires_at)


async def owed_on(pool: Pool, k1: str, min_sats: int) -> int:
    """Sats that this code can fetch now. Raises Problem."""
    job_id = await job_of(pool, k1, may_be_used=False)
    return await _owed(pool, job_id, min_sats)


async def job_of(pool: Pool, k1: str, *, may_be_used: bool) -> str:
    """`may_be_used`: a wallet that repeats its call is answered by the claim. Raises Problem."""
    row = await pool.fetchrow(_q.of_k1, k1_hash(k1)) if K1.fullmatch(k1) else None
    if row is None or (row["is_expired"] and not row["is_used"]):
        raise Problem(problems.WITHDRAWAL_INVALID, "It is not known, or too old. Scan the code on the page again.")
    if row["is_used"] and not may_be_used:
        raise Problem(problems.WITHDRAWAL_INVALID, "It was used. Look at the page again.")
    return str(row["job_id"])


def using_up(k1: str, job_id: str) -> Callable[[Connection], Awaitable[None]]:
    """A part of the claim's transaction: uses up the code, or refuses the claim."""

    async def use_up(conn: Connection) -> None:
        if not await conn.fetchval(_q.use_up, k1_hash(k1), job_id):
            raise Problem(problems.WITHDRAWAL_INVALID, "It was used, or is too old. Look at the page again.")

    return use_up


async def forget_old(pool: Pool) -> None:
    """Codes that ended a week ago."""
    await pool.execute(_q.forget_old)


async def _owed(pool: Pool, job_id: str, min_sats: int) -> int:
    owed = (await claim.owed_on(pool, job_id)).sats
    if not owed:
        raise Problem(problems.NOTHING_TO_REFUND, "Everything that was owed is paid, or nothing ever was.")
    refuse_below_minimum(owed, min_sats)
    return owed
