"""What the database itself refuses of a session, whatever code runs."""

from __future__ import annotations

import asyncpg
import pytest

from ledger.database import Connection, Pool

SESSION = """
insert into sessions (id, token_hash, refund_key_hash, client_address, deposit_sats, state)
values ('session-session-session', sha256('t'), sha256('r'), '127.0.0.1', 5, 'active');
"""
REQUEST = """
insert into session_requests (id, session_id, work, request_hash, client_address, serve, estimate_sats, absorb_sats,
                              held_sats, owner, lease_until)
values ('request-request-request', 'session-session-session', 'x', sha256('x'), '127.0.0.1', {}, 'me', now());
"""
COMPLETE = """
update session_requests set state = 'complete', ended_at = now(), balance_sats = 0,
    actual_cost_sats = {}, absorbed_sats = {}, charged_sats = {}
"""
FAILED = "update session_requests set state = 'failed', ended_at = now()"
REFUND = "insert into refunds (id, job_id, session_id, cause, amount_sats) values ('a', {}, 'c', 1)"
ENTRY = "insert into session_entries values ('session-session-session', {}, {}, 's', {}, {})"
HELD = REQUEST.format("'gate', 10, 0, 10")


REFUSED: tuple[tuple[str, ...], ...] = (
    (REQUEST.format("'gate', 10, 0, 9"),),  # less than the estimate is held
    (REQUEST.format("'partial', 10, 4, 6"),),
    (REQUEST.format("'partial', 10, 4, 10"),),  # the pool pays for nobody that it knows
    (REQUEST.format("'free', 10, 10, 10"),),
    (HELD, COMPLETE.format(5, 0, 6)),
    (HELD, COMPLETE.format(5, 0, 4)),
    (HELD, COMPLETE.format(11, 0, 11)),
    (HELD, COMPLETE.format(5, 1, 4)),  # more than was decided is absorbed
    (HELD, COMPLETE.format(5, 0, 5), COMPLETE.format(4, 0, 4)),
    (HELD, FAILED),
    (HELD, FAILED + ", failure_reason = 'x', absorbed_sats = 0, charged_sats = 0"),  # no balance is kept
    (HELD, "update session_requests set charged_sats = 1, absorbed_sats = 0"),
    (ENTRY.format(1, "'topup'", -5, 0),),
    (ENTRY.format(1, "'request'", 5, 5),),
    (ENTRY.format(1, "'refund'", 5, 5),),
    (ENTRY.format(1, "'request'", -5, -5),),
    (ENTRY.format(0, "'topup'", 5, 5),),
    (ENTRY.format(1, "'topup'", 5, 5), ENTRY.format(2, "'topup'", 5, 10)),  # one payment twice
    (ENTRY.format(1, "'topup'", 5, 5), "update session_entries set change_msat = 6"),
    (ENTRY.format(1, "'topup'", 5, 5), "delete from session_entries"),
    (REFUND.format("'another', 'session-session-session'"),),
    (REFUND.format("'session-session-session', null"),),
)


async def run(conn: Connection, *statements: str) -> None:
    for statement in statements:
        await conn.execute(statement)


@pytest.mark.parametrize("statements", REFUSED)
async def test_the_database_refuses(pool: Pool, statements: tuple[str, ...]) -> None:
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute(SESSION)
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await run(conn, *statements)
        await transaction.rollback()


async def test_what_is_right_is_taken(pool: Pool) -> None:
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await run(conn, SESSION, HELD, COMPLETE.format(5, 0, 5), ENTRY.format(1, "'topup'", 5, 5))
        await transaction.rollback()
