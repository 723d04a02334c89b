"""Failures are counted and halved by works that end at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Interface
from typing import Any

from gateway.jobs import slowing
from ledger.database import Connection, Pool
from tests.waiting import PATIENCE_S


async def until_waiting(pool: Pool, count: int = 1) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await pool.fetchval("select count(*) from pg_locks where not granted") < count:
            await asyncio.sleep(0.02)


async def test_a_success_and_a_failure_of_one_buyer_do_not_deadlock(pool: Pool) -> None:
    job = {"client_address": IPv4Interface("10.0.0.1/32"), "pubkey": "ab" * 32}
    await pool.execute(
        "insert into work_failures (kind, subject, failures) values ('address', '10.0.0.1/32', 1), ('identity', $1, 4)",
        job["pubkey"],
    )

    async def count(counted: Callable[[Connection, Any], Awaitable[None]]) -> None:
        async with pool.acquire() as conn, conn.transaction():
            await counted(conn, job)

    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("select from work_failures where kind = 'address' for update")
        failure = asyncio.create_task(count(slowing.count_failure))
        await until_waiting(pool)
        success = asyncio.create_task(count(slowing.count_success))
        await until_waiting(pool, 2)
    await asyncio.gather(failure, success)
    rows = await pool.fetch("select kind, failures from work_failures order by kind")
    assert {row["kind"]: row["failures"] for row in rows} == {"address": 1, "identity": 2}
