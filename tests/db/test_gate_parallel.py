"""Many processes ask one gate; and one of them is killed in the middle of a group."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from ledger import book, transfers
from ledger.database import Pool
from ledger.transfers import POOL, POOL_RESERVED
from tests.gate_asker import DAILY_LIMIT_SATS, RULES
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]


async def asker(dsn: str, name: str, count: int) -> asyncio.subprocess.Process:
    named = f"{dsn}{'&' if '?' in dsn else '?'}application_name={name}"
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.gate_asker", named, name, str(count), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )


async def until_gone(pool: Pool, name: str) -> None:
    """PostgreSQL goes on with what the process had begun, a commit too, until it notices that nobody is there."""
    async with asyncio.timeout(PATIENCE_S):
        while await pool.fetchval("select count(*) from pg_stat_activity where application_name = $1", name):
            await asyncio.sleep(0.02)


async def fund(pool: Pool, sats: int) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await book.post(conn, [transfers.topup("first", sats * 1000)])


async def release_all(pool: Pool) -> int:
    """What was reserved, in sats; it is given back, so that the books' check of owners holds."""
    from ledger import grants

    rows = await pool.fetch("select id, reserved_sats from reservations where state = 'reserved'")
    for row in rows:
        async with pool.acquire() as conn, conn.transaction():
            await grants.release_reservation(conn, row["id"])
    return sum(row["reserved_sats"] for row in rows)


async def kept_sats(pool: Pool) -> tuple[int, int]:
    async with pool.acquire() as conn:
        kept = await book.kept_balances(conn, (POOL, POOL_RESERVED))
    return kept[POOL] // 1000, kept[POOL_RESERVED] // 1000


@pytest.mark.slow
@pytest.mark.parametrize("pool_sats", [90, 100_000])
async def test_six_hundred_asks_from_four_processes(dsn: str, pool: Pool, pool_sats: int) -> None:
    """A pool that is nearly empty, and one whose limits bind: no limit is passed and every sat is explained."""
    await fund(pool, pool_sats)
    processes = [await asker(dsn, f"p{n}", 150) for n in range(4)]
    answers = [(await process.communicate())[0].decode().splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    free = {line.split()[0]: int(line.split()[2]) for lines in answers for line in lines if line.split()[1] == "free"}
    assert sum(len(lines) for lines in answers) == 600
    stored = {row["id"]: row["reserved_sats"] for row in await pool.fetch("select id, reserved_sats from reservations")}
    assert stored == free
    left, reserved = await kept_sats(pool)
    assert (left + reserved, reserved) == (pool_sats, sum(free.values()))
    assert left >= 0
    for row in await pool.fetch("select kind, sum(reserved_sats) as sats from gate_days group by kind, subject"):
        cap = {"identity": DAILY_LIMIT_SATS, "address": RULES.address_cap_sats, "pool": RULES.pool_cap_sats}
        assert row["sats"] <= (cap[row["kind"]] or 0)
    assert await release_all(pool) == reserved


@pytest.mark.slow
async def test_a_crash_in_a_group_keeps_what_was_answered_and_nothing_half(dsn: str, pool: Pool) -> None:
    await fund(pool, 100_000)
    process = await asker(dsn, "victim", 100_000)
    assert process.stdout is not None
    told = [(await process.stdout.readline()).decode().split() for _ in range(150)]
    process.kill()
    await until_gone(pool, "victim")
    told += [line.split() for line in (await process.stdout.read()).decode().splitlines()]
    await process.wait()
    stored = {row["id"]: row["reserved_sats"] for row in await pool.fetch("select id, reserved_sats from reservations")}
    answered = {words[0]: int(words[2]) for words in told if len(words) == 3 and words[1] == "free"}
    assert answered
    assert answered.items() <= stored.items()
    left, reserved = await kept_sats(pool)
    assert (left + reserved, reserved) == (100_000, sum(stored.values()))
    booked = await pool.fetchval("select count(*) from transfers where cause_kind = 'reserve'")
    assert booked == len(stored)
    assert await release_all(pool) == reserved
