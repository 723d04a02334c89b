"""What the database itself refuses of the operator's sessions and of the log of actions, whatever code runs."""

from __future__ import annotations

import asyncpg
import pytest

from ledger.database import Pool

SESSION = """
insert into operator_sessions (id, token_hash, client_address, expires_at, last_seen_at)
values ('session-session-session', {}, '127.0.0.1', now() + interval {}, now() + interval {})
"""
ACTION = """
insert into operator_actions (who, session_id, client_address, action, subject, said, outcome, problem)
values ({}, {}, {}, {}, 'pool', '5 sats', {}, {})
"""
OPEN = SESSION.format("sha256('t')", "'12 hours'", "'0'")
DONE = ACTION.format("'session'", "'session-session-session'", "'127.0.0.1'", "'topup'", "'done'", "null")
ALLOWED = (
    OPEN,
    DONE,
    ACTION.format("'command'", "null", "null", "'topup'", "'repeated'", "null"),
    ACTION.format("'key'", "null", "'::1'", "'topup'", "'refused'", "'pool_full'"),
)
REFUSED: tuple[tuple[str, ...], ...] = (
    (SESSION.format("sha256('t')", "'12 hours 1 second'", "'0'"),),
    (SESSION.format("sha256('t')", "'0'", "'0'"),),  # over when it begins
    (SESSION.format("'the cookie itself'", "'1 hour'", "'0'"),),  # no hash
    (SESSION.format("sha256('t')", "'1 hour'", "'1 hour'"),),  # seen after its end
    (SESSION.format("sha256('t')", "'1 hour'", "'-1 hour'"),),
    (OPEN, "update operator_sessions set expires_at = expires_at + interval '1 second'"),
    (OPEN, OPEN),
    (ACTION.format("'session'", "null", "'::1'", "'topup'", "'done'", "null"),),  # whose session
    (ACTION.format("'key'", "'session-session-session'", "'::1'", "'topup'", "'done'", "null"),),
    (ACTION.format("'key'", "null", "null", "'topup'", "'done'", "null"),),  # from nowhere
    (ACTION.format("'command'", "null", "'::1'", "'topup'", "'done'", "null"),),
    (ACTION.format("'command'", "null", "null", "'topup'", "'refused'", "null"),),  # without a reason
    (ACTION.format("'command'", "null", "null", "'topup'", "'done'", "'pool_full'"),),
    (ACTION.format("'command'", "null", "null", "'Top up!'", "'done'", "null"),),
    (ACTION.format("'somebody'", "null", "'::1'", "'topup'", "'done'", "null"),),
    (DONE, "update operator_actions set said = '6 sats'"),
    (DONE, "delete from operator_actions"),
    (DONE, "truncate operator_actions"),
)


async def test_what_is_right_is_taken(pool: Pool) -> None:
    async with pool.acquire() as conn:
        for statement in ALLOWED:
            await conn.execute(statement)
        assert await conn.fetchval("select count(*) from operator_actions") == 3


@pytest.mark.parametrize("statements", REFUSED, ids=range(len(REFUSED)))
async def test_what_is_wrong_is_refused(pool: Pool, statements: tuple[str, ...]) -> None:
    *before, last = statements
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        for statement in before:
            await conn.execute(statement)
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await conn.execute(last)
        await transaction.rollback()
