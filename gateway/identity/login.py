"""Logging in: a challenge that is used once, answered by a signed event, gives a token for 30 days."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway import problems
from gateway.context import Gateway
from gateway.identity.event import InvalidEvent, read_event
from gateway.identity.rules import check_login
from gateway.ids import token_hash
from gateway.jobs.create import ClientAddress
from gateway.problems import Problem
from ledger import sql
from ledger.database import Pool

_q = sql.load("gateway.identity")

TOKEN_PREFIX = "bw_id_"  # noqa: S105 - how tokens begin, no token
CHALLENGES_PER_ADDRESS = 30
CHALLENGES_TOTAL = 10_000
"""Within five minutes, used ones included: asking and logging in fill no disk."""
TOKENS_PER_KEY = 20


@dataclass(frozen=True, slots=True)
class Challenge:
    """`relay` is our public address, as the event's tag must say it."""

    challenge: str
    expires_at: datetime
    relay: str


@dataclass(frozen=True, slots=True)
class Login:
    token: str
    pubkey: str
    expires_at: datetime


async def new_challenge(gateway: Gateway, address: ClientAddress) -> Challenge:
    """To be signed within five minutes. Raises Problem (429) when too many wait; callers that race may pass the cap."""
    challenge = secrets.token_urlsafe(32)
    await gateway.pool.execute(_q.forget_expired_challenges)
    expires_at = await gateway.pool.fetchval(
        _q.new_challenge, challenge, address, CHALLENGES_PER_ADDRESS, CHALLENGES_TOTAL
    )
    if expires_at is None:
        raise Problem(
            problems.TOO_MANY_LOGINS, "Use one you have, or try again in a few minutes.", headers={"Retry-After": "60"}
        )
    return Challenge(challenge, expires_at, gateway.settings.base_url)


async def log_in(gateway: Gateway, signed: Any) -> Login:
    """The token for a signed login event (parsed JSON). Raises Problem (401); the challenge is then not used up."""
    try:
        event = read_event(signed)
        challenge = check_login(event, relay=gateway.settings.base_url, now_s=int(time.time()))
    except InvalidEvent as error:
        raise Problem(problems.IDENTITY_INVALID, str(error)) from None
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    async with gateway.pool.acquire() as conn, conn.transaction():
        if await conn.fetchval(_q.use_challenge, challenge) is None:
            raise Problem(problems.CHALLENGE_INVALID, "It is not ours, was used, or is older than five minutes.")
        await conn.execute(_q.keep_newest_tokens, event.pubkey, TOKENS_PER_KEY - 1)
        expires_at = await conn.fetchval(_q.new_token, token_hash(token), event.pubkey)
    return Login(token, event.pubkey, expires_at)


async def pubkey_of_token(pool: Pool, token: str) -> str | None:
    """Whose token that is; None when it is unknown or over."""
    found = await pool.fetchval(_q.token_pubkey, token_hash(token)) if token.startswith(TOKEN_PREFIX) else None
    return None if found is None else str(found)


async def log_out(pool: Pool, token: str) -> None:
    await pool.execute(_q.forget_token, token_hash(token))


async def forget_old(pool: Pool) -> None:
    """Challenges and tokens that are over, and ids of events that are stale anyway."""
    await pool.execute(_q.forget_old_challenges)
    await pool.execute(_q.forget_old_tokens)
    await pool.execute(_q.forget_old_events)
