"""The book: one writer, unique causes, limits that the database itself keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from gateway.audit import all_invariants
from ledger import book
from ledger.audit import self_test
from ledger.book import AccountMissing, CauseConflict
from ledger.database import Pool
from ledger.money import Msat
from ledger.transfers import POOL, Transfer, holding

TOPUP = Transfer("topup", "first", "capital", POOL, Msat(5000))


async def post(pool: Pool, *transfers: Transfer, opening: Sequence[str] = ()) -> list[Transfer]:
    async with pool.acquire() as conn, conn.transaction():
        return await book.post(conn, transfers, opening)


async def pool_balance(pool: Pool) -> int:
    async with pool.acquire() as conn:
        return (await book.balances(conn))[POOL]


async def test_a_cause_posts_once(pool: Pool) -> None:
    assert await post(pool, TOPUP) == [TOPUP]
    assert await post(pool, TOPUP) == []
    assert await pool_balance(pool) == 5000


async def test_twenty_at_once_post_once(pool: Pool) -> None:
    posted = await asyncio.gather(*(post(pool, TOPUP) for _ in range(20)))
    assert sorted(len(new) for new in posted) == [0] * 19 + [1]
    assert await pool_balance(pool) == 5000


async def test_the_same_cause_with_another_amount_is_a_fault(pool: Pool) -> None:
    await post(pool, TOPUP)
    with pytest.raises(CauseConflict):
        await post(pool, Transfer("topup", "first", "capital", POOL, Msat(6000)))
    assert await pool_balance(pool) == 5000


async def test_the_pool_can_not_go_below_zero(pool: Pool) -> None:
    await post(pool, TOPUP)
    with pytest.raises(asyncpg.CheckViolationError):
        await post(pool, Transfer("drain", "x", POOL, "revenue", Msat(5001)))
    assert await pool_balance(pool) == 5000


async def test_parallel_drains_take_what_there_is_and_no_more(pool: Pool) -> None:
    await post(pool, TOPUP)
    drains = [Transfer("drain", str(n), POOL, "revenue", Msat(700)) for n in range(20)]
    results = await asyncio.gather(*(post(pool, drain) for drain in drains), return_exceptions=True)
    assert sum(isinstance(result, list) for result in results) == 7
    assert sum(isinstance(result, asyncpg.CheckViolationError) for result in results) == 13
    assert await pool_balance(pool) == 100


async def test_opposite_postings_do_not_deadlock(pool: Pool) -> None:
    held = holding("nobody")
    await post(pool, TOPUP, Transfer("topup", "second", "capital", held, Msat(5000)), opening=[held])
    there = [Transfer("there", str(n), POOL, held, Msat(1)) for n in range(50)]
    back = [Transfer("back", str(n), held, POOL, Msat(1)) for n in range(50)]
    await asyncio.gather(*(post(pool, transfer) for pair in zip(there, back, strict=True) for transfer in pair))
    assert await pool_balance(pool) == 5000


async def test_a_holding_is_made_once_with_all_that_it_gets(pool: Pool) -> None:
    held = holding("somebody")
    paid = [Transfer("topup", str(n), "capital", held, Msat(1000 + n)) for n in range(20)]
    await asyncio.gather(*(post(pool, transfer, opening=[held, holding("empty")]) for transfer in paid))
    assert await post(pool, paid[0], opening=[held]) == []
    async with pool.acquire() as conn:
        kept = await book.kept_balances(conn, [held, holding("empty")])
    assert kept == {held: 20_190, holding("empty"): 0}


async def test_what_is_opened_is_only_credited(pool: Pool) -> None:
    held = holding("somebody")
    with pytest.raises(asyncpg.CheckViolationError):
        await post(pool, Transfer("charge", "1", held, "revenue", Msat(1)), opening=[held])
    with pytest.raises(AccountMissing):
        await post(pool, Transfer("settlement", "1", "node", held, Msat(1)))


@pytest.mark.parametrize(
    "statement", ["update transfers set amount_msat = 1", "delete from transfers", "truncate transfers"]
)
async def test_transfers_are_immutable(pool: Pool, statement: str) -> None:
    await post(pool, TOPUP)
    with pytest.raises(asyncpg.RestrictViolationError, match="immutable"):
        await pool.execute(statement)


async def test_a_transfer_needs_a_real_amount_and_two_accounts(pool: Pool) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await post(pool, Transfer("x", "1", "capital", POOL, Msat(0)))
    with pytest.raises(asyncpg.CheckViolationError):
        await post(pool, Transfer("x", "2", POOL, POOL, Msat(1)))


async def test_every_break_of_an_invariant_is_noticed(pool: Pool) -> None:
    async with pool.acquire() as conn:
        assert await self_test(conn, all_invariants()) == []
    assert len(all_invariants()) >= 12
