"""Logged in with the operator key: a session of twelve hours, and a limit on tries that were wrong."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.context import Gateway
from gateway.ids import new_id
from gateway.jobs.create import ClientAddress
from gateway.operator.log import Actor, Logged, acting
from gateway.problems import Problem, ProblemType
from ledger import sql
from ledger.database import Pool

_q = sql.load("gateway.operator")
log = logging.getLogger(__name__)

LIMITED = ProblemType("operator_login_limited", 429, "Too many tries of the operator key")
NO_SESSION = ProblemType("operator_session_not_found", 404, "There is no such session")
SESSION_ID = re.compile("[A-Za-z0-9_-]{22}")
SESSION_S = 12 * 3600
SESSIONS = 20
"""The newest ones; a login above that ends the oldest."""
TRIES_PER_ADDRESS = 5
TRIES_IN_ALL = 50
WINDOW_S = 15 * 60


@dataclass(frozen=True, slots=True)
class OperatorSession:
    id: str
    csrf: str
    """Stands in every form of this session."""
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class LoggedIn:
    token: str
    actor: Actor


def is_operator_key(gateway: Gateway, given: str) -> bool:
    """Constant time, whatever bytes are given."""
    key = gateway.settings.operator_key.get_secret_value()
    return hmac.compare_digest(given.encode(errors="surrogateescape"), key.encode())


async def log_in(gateway: Gateway, key: str, address: ClientAddress) -> LoggedIn | None:
    """None: it is not the operator key. Raises Problem (429) before the key is looked at: a guess learns nothing."""
    async with gateway.operator_login:
        try_id = await _count_try(gateway.pool, address)
    if not is_operator_key(gateway, key):
        log.warning("a wrong operator key was tried from %s", address)
        return None
    token, actor = secrets.token_urlsafe(32), Actor("session", new_id(), address)
    async with acting(gateway.pool, actor, "login", "pages", "let in for 12 hours") as act:
        await act.conn.execute(_q.forget_try, try_id)
        await act.conn.execute(_q.open_session, actor.session_id, _stored(gateway, token), address, SESSION_S)
        await act.conn.execute(_q.keep_newest_sessions, SESSIONS)
    return LoggedIn(token, actor)


async def _count_try(pool: Pool, address: ClientAddress) -> int:
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(_q.lock_tries)
        try_id = await conn.fetchval(_q.count_try, address, TRIES_PER_ADDRESS, TRIES_IN_ALL, WINDOW_S)
        if try_id is None:
            wait_s = await conn.fetchval(_q.wait_s, address, TRIES_PER_ADDRESS, WINDOW_S)
            raise Problem(LIMITED, "Wait, and try again.", headers={"Retry-After": str(wait_s)})
    return int(try_id)


async def find_session(gateway: Gateway, token: str) -> OperatorSession | None:
    """The session of a cookie; None when it is unknown, over, or was opened with another key."""
    row = await gateway.pool.fetchrow(_q.session_of, _stored(gateway, token))
    return None if row is None else OperatorSession(row["id"], csrf_token(gateway, token), row["expires_at"])


async def log_out(gateway: Gateway, actor: Actor) -> None:
    async with acting(gateway.pool, actor, "logout", "pages", "ended") as act:
        await act.conn.execute(_q.end_session, actor.session_id)


async def open_sessions(pool: Pool) -> list[Any]:
    """`id, address, created_at, last_seen_at, expires_at`, the newest first."""
    return list(await pool.fetch(_q.open_sessions))


async def end_session(gateway: Gateway, actor: Actor, session_id: str) -> Logged:
    """Another session of the operator's, or one's own. Raises Problem (404): it is over already."""
    if not SESSION_ID.fullmatch(session_id):
        raise Problem(NO_SESSION)
    async with acting(gateway.pool, actor, "end_session", session_id, "ended") as act:
        if await act.conn.fetchval(_q.end_session, session_id) is None:
            raise Problem(NO_SESSION, "It has ended already.")
    return act.logged


def csrf_token(gateway: Gateway, token: str) -> str:
    """What a form of this session holds; it follows from the cookie, which no other site can read."""
    return hmac.new(gateway.token_secret.encode(), b"operator csrf:" + _bytes(token), hashlib.sha256).hexdigest()


def _stored(gateway: Gateway, token: str) -> bytes:
    """What is kept of a cookie. Another operator key gives another hash, so that it ends every session."""
    key = gateway.settings.operator_key.get_secret_value()
    return hmac.digest(key.encode(), b"operator session:" + _bytes(token), "sha256")


def _bytes(token: str) -> bytes:
    return token.encode(errors="surrogateescape")


async def tries_of_late(pool: Pool) -> int:
    """Within the window, wrong ones only."""
    return int(await pool.fetchval(_q.tries, WINDOW_S))


async def forget_old(pool: Pool) -> None:
    """Sessions that are over, and tries that count no more."""
    await pool.execute(_q.forget_old_sessions)
    await pool.execute(_q.forget_old_tries)
