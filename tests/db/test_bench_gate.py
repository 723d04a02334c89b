"""The benchmark compares like with like: the usual way and ours write the same rows; and it runs as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest_asyncio

from gateway.bench import gate
from gateway.database import migrate_database
from ledger import grants
from ledger.database import Pool, open_pool

WRITTEN = {
    "reservations": "id, pubkey, client_address, day, request_hash, reserved_sats, state, absorbed_sats, ended_at",
    "transfers": "cause_kind, cause_id, debit, credit, amount_msat",
    "gate_days": "kind, subject, day, absorbed_sats, reserved_sats",
    "accounts": "code, balance_msat",
    "identities": "pubkey, paid_sats, operator_tier, blocked",
}
ASKS = [gate.ask("same", number) for number in range(7)]
Way = Callable[[Pool], Awaitable[object]]


async def usual(pool: Pool) -> None:
    for ask in ASKS:
        await gate.usual(pool, ask)


async def ours(pool: Pool) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await grants.decide(conn, ASKS, gate.RULES)


async def written(pool: Pool) -> dict[str, set[tuple[object, ...]]]:
    return {
        table: {tuple(row) for row in await pool.fetch(f"select {columns} from {table}")}  # noqa: S608
        for table, columns in WRITTEN.items()
    }


@pytest_asyncio.fixture
async def other_pool(empty_dsn: str) -> AsyncIterator[Pool]:
    await migrate_database(empty_dsn)
    async with open_pool(empty_dsn, min_size=1, max_size=4) as opened:
        yield opened


async def test_both_ways_write_the_same_rows(pool: Pool, other_pool: Pool) -> None:
    for each, way in ((pool, usual), (other_pool, ours)):
        await gate.prepare(each)
        await way(each)
    rows = await written(pool)
    assert rows == await written(other_pool)
    assert len(rows["reservations"]) == len(ASKS)
    assert len(rows["transfers"]) == len(ASKS) + 1


async def test_the_benchmark_runs(empty_dsn: str) -> None:
    await migrate_database(empty_dsn)
    told: list[str] = []
    report = await gate.run_gate(empty_dsn, seconds=0.2, tell=told.append)
    assert set(report["rates"]) == {"usual", "insert1", "insert32", "ours1", "ours2"}
    assert all(rate["perS"] > 0 for rate in report["rates"].values())
    assert set(report["ratios"]) == {"ours_to_usual", "ours_to_insert", "ours_to_insert_32_connections"}
    assert len(told) == 5
    conn = await asyncpg.connect(empty_dsn)
    made, booked = await conn.fetchrow(
        "select (select count(*) from reservations), (select count(*) from transfers where cause_kind = 'reserve')"
    )
    await conn.close()
    assert made == booked > 0
