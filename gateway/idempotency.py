"""`Idempotency-Key`: same key and body, same answer for 24 h; another body 422; still running 409.

A claim is a row with a lease and a ready-made resource id. When the claimant dies, its lease ends and the
retry resumes the same resource.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from gateway import problems
from gateway.ids import new_id
from gateway.problems import Problem
from ledger import sql
from ledger.database import Connection, Pool, from_jsonb, to_jsonb

_q = sql.load("gateway", "idempotency.sql")

HEADER = "Idempotency-Key"
MIN_LENGTH, MAX_LENGTH = 20, 255


@dataclass(frozen=True, slots=True)
class Claim:
    """This process answers the request. `resumed`: an earlier claimant may have made the resource already."""

    scope: str
    key_hash: bytes
    owner: str
    resource_id: str
    resumed: bool


@dataclass(frozen=True, slots=True)
class Replay:
    """The request was answered before: the same answer again."""

    resource_id: str
    status: int
    body: dict[str, Any]


def checked_key(key: str | None) -> str | None:
    """The header's value, or None without one. Raises Problem."""
    if key is None:
        return None
    if not (MIN_LENGTH <= len(key) <= MAX_LENGTH) or not key.isascii() or not key.isprintable():
        raise Problem(
            problems.IDEMPOTENCY_KEY_INVALID, f"It needs {MIN_LENGTH} to {MAX_LENGTH} printable ASCII characters."
        )
    return key


async def replay(pool: Pool, *, scope: str, key: str, body: bytes) -> Replay | None:
    """The kept answer, if there is one, before anything else is looked at. Raises Problem (reused)."""
    found = await pool.fetchrow(_q.find_fresh, scope, hashlib.sha256(key.encode()).digest())
    if found is None:
        return None
    if found["body_hash"] != hashlib.sha256(body).digest():
        raise Problem(problems.IDEMPOTENCY_KEY_REUSED, "Use a new key for a new request.")
    if found["status"] is None:
        return None
    return Replay(found["resource_id"], found["status"], from_jsonb(found["response"]))


async def claim(pool: Pool, *, scope: str, key: str, body: bytes, lease_s: float) -> Claim | Replay:
    """Claim the key for this request, or replay its answer. Raises Problem (reused, in use)."""
    key_hash = hashlib.sha256(key.encode()).digest()
    body_hash = hashlib.sha256(body).digest()
    owner, resource_id = new_id(), new_id()
    row = await pool.fetchrow(_q.claim, scope, key_hash, body_hash, resource_id, owner, lease_s)
    if row is not None:
        return Claim(scope, key_hash, owner, row["resource_id"], resumed=row["resource_id"] != resource_id)
    found = await pool.fetchrow(_q.find, scope, key_hash)
    if found is None or (found["body_hash"] == body_hash and found["status"] is None):
        raise Problem(problems.IDEMPOTENCY_KEY_IN_USE, "Try again in a few seconds.", headers={"Retry-After": "2"})
    if found["body_hash"] != body_hash:
        raise Problem(problems.IDEMPOTENCY_KEY_REUSED, "Use a new key for a new request.")
    return Replay(found["resource_id"], found["status"], from_jsonb(found["response"]))


async def finish(conn: Connection | Pool, claim: Claim, status: int, body: dict[str, Any]) -> None:
    """Keep the answer; secrets that can be made again (tokens) are left out by the caller."""
    await conn.execute(_q.finish, claim.scope, claim.key_hash, claim.owner, status, to_jsonb(body))


async def release(pool: Pool, claim: Claim) -> None:
    """No answer was reached (LND away): end the lease now, so that the retry need not wait for it."""
    await pool.execute(_q.release, claim.scope, claim.key_hash, claim.owner)


async def forget_old(pool: Pool) -> None:
    await pool.execute(_q.forget_old)
