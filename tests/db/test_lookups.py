"""Rows by their key, for all who ask at the same time: one statement, nothing older than the question."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from ledger.database import Pool
from ledger.groups import Lookups

BALANCES = "select code, balance_msat from accounts where code = any($1::text[])"


async def test_everybody_has_their_own_row(pool: Pool) -> None:
    rows = Lookups(pool, BALANCES, "code")
    found = await asyncio.gather(*(rows.submit(code) for code in ("pool", "nobody", "revenue", "pool")))
    assert [row and row["code"] for row in found] == ["pool", None, "revenue", "pool"]


async def test_those_who_ask_while_one_is_asked_share_a_statement(dsn: str) -> None:
    numbered = "select code, nextval('pg_temp.asked') as place from accounts where code = any($1::text[])"
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as alone:
        await alone.execute("create temp sequence asked")
        rows = Lookups(alone, numbered, "code")
        first = asyncio.create_task(rows.submit("pool"))
        await asyncio.sleep(0)
        await asyncio.gather(first, *(rows.submit("revenue") for _ in range(50)))
        assert await alone.fetchval("select last_value from asked") == 2


async def test_an_answer_is_never_older_than_its_question(pool: Pool) -> None:
    seen = Lookups(pool, "select 'x' as key, (select count(*) from work_failures) as many where 'x' = any($1)", "key")

    async def write_then_read(number: int) -> None:
        await pool.execute("insert into work_failures (kind, subject, failures) values ('address', $1, 1)", str(number))
        before = await pool.fetchval("select count(*) from work_failures")
        assert (await seen.submit("x"))["many"] >= before

    await asyncio.gather(*(write_then_read(number) for number in range(30)))


async def test_what_fails_fails_for_all_at_once(pool: Pool) -> None:
    rows = Lookups(pool, "select 1 / 0 as code where $1::text[] is not null", "code")
    answers = await asyncio.gather(*(rows.submit(str(n)) for n in range(5)), return_exceptions=True)
    assert all(isinstance(answer, asyncpg.DivisionByZeroError) for answer in answers)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await rows.submit("again")


async def test_a_broken_connection_is_no_fault_of_those_who_ask(dsn: str) -> None:
    """It is asked once more, on another; nobody's payment waits for a connection that is gone."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as alone:
        rows = Lookups(alone, BALANCES, "code")
        pid = await alone.fetchval("select pg_backend_pid()")
        asking = Lookups(alone, f"select pg_terminate_backend({pid}), code from accounts where code = any($1)", "code")  # noqa: S608
        answers = await asyncio.gather(asking.submit("pool"), rows.submit("pool"))
        assert [answer["code"] for answer in answers] == ["pool", "pool"]
