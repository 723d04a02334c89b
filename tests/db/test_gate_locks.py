"""The gate's locks: taken in one order, nothing held of a later kind while an earlier one is waited for, and what
another group committed meanwhile is seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from ipaddress import IPv4Interface

import pytest

from ledger import book, grants, transfers
from ledger.database import Connection, Pool
from ledger.free_tier import Decision, Rules, Serve, Tier
from ledger.grants import Ask
from ledger.money import sats_to_msat
from tests.waiting import PATIENCE_S

RULES = Rules((Tier("all", 0, 0, 1000, Decimal(1)),), pool_cap_sats=1000, address_cap_sats=1000)
FIRST, SECOND = f"{1:064x}", f"{2:064x}"
ADDRESS = IPv4Interface("10.0.0.1/32")
IDENTITY = "select from identities where pubkey = $1 for no key update"
DAY = "select from gate_days where kind = $1 for no key update"
WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
ACCOUNT = "select from accounts where code = $1 for no key update"


def ask(name: str, pubkey: str, sats: int = 10) -> Ask:
    return Ask(f"test:{name}", pubkey, ADDRESS, sats, b"r" * 32)


async def decide(pool: Pool, *asks: Ask) -> list[Decision]:
    async with pool.acquire() as conn, conn.transaction():
        return await grants.decide(conn, asks, RULES)


async def fund(pool: Pool, sats: int) -> None:
    """With money, and with everybody known and every day open."""
    async with pool.acquire() as conn, conn.transaction():
        await book.post(conn, [transfers.topup("first", sats_to_msat(sats))])
        await grants.decide(conn, [ask("known 1", FIRST, 10**6), ask("known 2", SECOND, 10**6)], Rules())


async def release(pool: Pool, *asks: Ask) -> None:
    for each in asks:
        async with pool.acquire() as conn, conn.transaction():
            await grants.release_reservation(conn, each.reservation_id)


@asynccontextmanager
async def waiting_for(pool: Pool, statement: str, name: str, *asks: Ask) -> AsyncIterator[asyncio.Task[list[Decision]]]:
    """A group that waits for rows which somebody else has locked; they are set free at the end."""
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(statement, name)
        group = asyncio.create_task(decide(pool, *asks))
        await until_waiting(pool)
        yield group
    await group


async def until_waiting(pool: Pool) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await pool.fetchval(WAITING):
            await asyncio.sleep(0.02)


async def is_free(conn: Connection, statement: str, name: str) -> bool:
    async with conn.transaction():
        rows = await conn.fetch(statement + " skip locked", name)
    return bool(rows)


@pytest.mark.parametrize(
    ("waited", "name", "later"),
    [
        (IDENTITY, FIRST, [(IDENTITY, SECOND), (DAY, "address"), (DAY, "pool"), (ACCOUNT, "pool")]),
        (DAY, "address", [(DAY, "identity"), (DAY, "pool"), (ACCOUNT, "pool_reserved"), (ACCOUNT, "pool")]),
        (DAY, "pool", [(ACCOUNT, "pool_reserved"), (ACCOUNT, "pool")]),
        (ACCOUNT, "pool_reserved", [(ACCOUNT, "pool")]),
    ],
)
async def test_what_comes_later_is_free_while_a_group_waits(
    pool: Pool, waited: str, name: str, later: list[tuple[str, str]]
) -> None:
    await fund(pool, 100)
    asks = [ask("a", FIRST), ask("b", SECOND)]
    async with waiting_for(pool, waited, name, *asks) as group, pool.acquire() as conn:
        assert [await is_free(conn, *row) for row in later] == [True] * len(later)
    assert [decision.serve for decision in group.result()] == [Serve.FREE] * 2
    await release(pool, *asks)


async def test_what_others_took_meanwhile_is_seen(pool: Pool) -> None:
    """Two groups of different identities meet at the day of their address: the second sees what the first took."""
    await fund(pool, 15)
    first, second = ask("first", FIRST), ask("second", SECOND)
    async with pool.acquire() as conn, conn.transaction():
        (taken,) = await grants.decide(conn, [first], RULES)
        group = asyncio.create_task(decide(pool, second))
        await until_waiting(pool)
    (left,) = await group
    assert (taken.serve, taken.absorb_sats) == (Serve.FREE, 10)
    assert (left.serve, left.absorb_sats, left.reason) == (Serve.PARTIAL, 5, "pool_balance")
    await release(pool, first)


async def test_an_ask_repeated_beside_its_own_commit_is_found(pool: Pool) -> None:
    await fund(pool, 100)
    made = ask("same", FIRST)
    async with pool.acquire() as conn, conn.transaction():
        await grants.decide(conn, [made], RULES)
        again = asyncio.create_task(decide(pool, made))
        await until_waiting(pool)
    assert [(decision.serve, decision.absorb_sats) for decision in await again] == [(Serve.FREE, 10)]
    assert await pool.fetchval("select count(*) from transfers where cause_kind = 'reserve'") == 1
    await release(pool, made)
