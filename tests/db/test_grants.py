"""The five calls of the gate, where the model in memory does not look: ends, midnight, equal requests, dry runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from ipaddress import IPv4Interface

import pytest

from ledger import book, grants, transfers
from ledger.database import Connection, Pool
from ledger.free_tier import Rules, Serve, Tier
from ledger.grants import Ask, ReservationEnded
from ledger.money import sats_to_msat
from ledger.transfers import POOL, POOL_RESERVED

RULES = Rules((Tier("all", 0, 0, 1000, Decimal(1)),))
PUBKEY = f"{1:064x}"
SAME_REQUEST = b"r" * 32
POOL_SATS = 500
End = Callable[[Connection, Ask], Awaitable[None]]


def ask(name: str, estimate_sats: int = 100) -> Ask:
    return Ask(f"test:{name}", PUBKEY, IPv4Interface("10.0.0.1/32"), estimate_sats, SAME_REQUEST)


async def record(conn: Connection, made: Ask, actual_sats: int = 30) -> None:
    await grants.record_grant(
        conn, made.pubkey, made.request_hash, actual_sats, made.estimate_sats, made.reservation_id
    )


async def release(conn: Connection, made: Ask) -> None:
    await grants.release_reservation(conn, made.reservation_id)


async def reserve(pool: Pool, *asks: Ask) -> None:
    """A funded pool serves these free."""
    async with pool.acquire() as conn, conn.transaction():
        await book.post(conn, [transfers.topup("first", sats_to_msat(POOL_SATS))])
        decisions = await grants.decide(conn, asks, RULES)
    assert [decision.serve for decision in decisions] == [Serve.FREE] * len(asks)


async def kept_sats(pool: Pool) -> tuple[int, int]:
    """`(pool, pool reserved)`."""
    async with pool.acquire() as conn:
        kept = await book.kept_balances(conn, (POOL, POOL_RESERVED))
    return kept[POOL] // 1000, kept[POOL_RESERVED] // 1000


@pytest.mark.parametrize("second", [record, release])
@pytest.mark.parametrize(("first", "left_sats"), [(record, POOL_SATS - 30), (release, POOL_SATS)])
async def test_a_reservation_ends_once(pool: Pool, first: End, left_sats: int, second: End) -> None:
    made = ask("once")
    await reserve(pool, made)
    async with pool.acquire() as conn:
        async with conn.transaction():
            await first(conn, made)
        with pytest.raises(ReservationEnded):
            async with conn.transaction():
                await second(conn, made)
    assert await kept_sats(pool) == (left_sats, 0)


async def test_what_was_never_reserved_can_not_end(pool: Pool) -> None:
    async with pool.acquire() as conn:
        with pytest.raises(ReservationEnded):
            await release(conn, ask("never"))


async def test_a_grant_is_recorded_for_its_own_request_only(pool: Pool) -> None:
    made = ask("mine")
    await reserve(pool, made)
    async with pool.acquire() as conn:
        with pytest.raises(ReservationEnded, match="another request"):
            async with conn.transaction():
                await grants.record_grant(conn, PUBKEY, b"x" * 32, 30, 100, made.reservation_id)
        assert await kept_sats(pool) == (POOL_SATS - 100, 100)
        async with conn.transaction():
            await release(conn, made)


async def test_recorded_after_midnight_it_counts_on_the_day_on_which_it_was_made(pool: Pool) -> None:
    made = ask("midnight")
    await reserve(pool, made)
    async with pool.acquire() as conn:
        await conn.execute("update reservations set day = day - 1; update gate_days set day = day - 1")
        async with conn.transaction():
            await record(conn, made)
        for key in made.day_keys:
            assert (await grants.used_today(conn, key)).total_sats == 0
    days = await pool.fetch(
        "select (now() at time zone 'utc')::date - day as age, absorbed_sats, reserved_sats from gate_days"
    )
    assert [tuple(row) for row in days] == [(1, 30, 0)] * 3
    assert await pool.fetchval("select (now() at time zone 'utc')::date - day from grants") == 1


async def test_equal_requests_are_two_grants(pool: Pool) -> None:
    first, second = ask("first"), ask("second")
    await reserve(pool, first, second)
    async with pool.acquire() as conn, conn.transaction():
        await record(conn, first, 10)
        await record(conn, second, 20)
    rows = await pool.fetch("select reservation_id, request_hash, reserved_sats, absorbed_sats from grants order by id")
    assert [tuple(row) for row in rows] == [
        ("test:first", SAME_REQUEST, 100, 10),
        ("test:second", SAME_REQUEST, 100, 20),
    ]
    assert await kept_sats(pool) == (POOL_SATS - 30, 0)


async def test_a_dry_run_writes_nothing(pool: Pool) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await book.post(conn, [transfers.topup("first", sats_to_msat(POOL_SATS))])
    async with pool.acquire() as conn, conn.transaction(readonly=True):
        decision = await grants.decide_dry_run(conn, ask("dry"), RULES)
    assert (decision.serve, decision.absorb_sats) == (Serve.FREE, 100)
    for table in ("identities", "gate_days", "reservations"):
        assert await pool.fetchval(f"select count(*) from {table}") == 0  # noqa: S608
