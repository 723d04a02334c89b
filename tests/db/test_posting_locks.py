"""A posting is one statement: what it locks first, and what it does with what changed while it waited."""

from __future__ import annotations

import asyncio
import random

import asyncpg
import pytest

from ledger import book
from ledger.book import AccountMissing, CauseConflict
from ledger.database import Pool
from ledger.money import Msat
from ledger.transfers import POOL, POOL_RESERVED, Transfer, holding
from tests.waiting import until_somebody_waits

HELD = holding("h")
IN_ORDER = (HELD, POOL_RESERVED, POOL)


async def post(pool: Pool, *transfers: Transfer, opening: tuple[str, ...] = ()) -> list[Transfer]:
    async with pool.acquire() as conn, conn.transaction():
        return await book.post(conn, transfers, opening)


def topup(cause: str, amount_msat: int, account: str = POOL) -> Transfer:
    return Transfer("topup", cause, "capital", account, Msat(amount_msat))


async def kept(pool: Pool) -> dict[str, int]:
    rows = await pool.fetch("select code, balance_msat from accounts where limited")
    return {row["code"]: row["balance_msat"] for row in rows}


@pytest.mark.parametrize("place", range(3))
async def test_accounts_are_locked_in_order_and_before_anything_is_written(pool: Pool, place: int) -> None:
    await post(pool, topup("a", 1000), topup("b", 1000, HELD), opening=(HELD,))
    there, set_aside = Transfer("there", "1", POOL, HELD, Msat(7)), Transfer("aside", "1", POOL, POOL_RESERVED, Msat(3))
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("select from accounts where code = $1 for no key update", IN_ORDER[place])
        posting = asyncio.create_task(post(pool, there, set_aside))
        await until_somebody_waits(pool)
        free = [
            code
            for code in IN_ORDER
            if await pool.fetchval("select true from accounts where code = $1 for no key update skip locked", code)
        ]
        assert free == list(IN_ORDER[place + 1 :]), "those before are locked, those after wait for their turn"
        # The same cause by another hand does not wait: nothing of the posting stands yet.
        await conn.execute(
            "insert into transfers (cause_kind, cause_id, debit, credit, amount_msat)"
            " values ('there', '1', 'pool', $1, 8)",
            HELD,
        )
    with pytest.raises(CauseConflict):
        await posting
    await pool.execute("update accounts set balance_msat = balance_msat + 8 where code = $1", HELD)
    await pool.execute("update accounts set balance_msat = balance_msat - 8 where code = 'pool'")


async def test_what_waited_adds_to_the_newest_balance(pool: Pool) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await book.post(conn, [topup("first", 1000)])
        waiting = [asyncio.create_task(post(pool, topup(str(n), 10))) for n in range(5)]
        await until_somebody_waits(pool, 5)
    await asyncio.gather(*waiting)
    assert (await kept(pool))[POOL] == 1050


async def test_a_holding_that_was_made_meanwhile_is_not_passed_over(pool: Pool) -> None:
    """The statement's snapshot is older than its locks: it can not move that balance, so it posts nothing."""
    await post(pool, topup("seed", 5000))
    there = Transfer("there", "1", POOL, HELD, Msat(7))
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("select from accounts where code = 'pool' for no key update")
        posting = asyncio.create_task(post(pool, there))
        await until_somebody_waits(pool)
        await post(pool, topup("c", 100, HELD), opening=(HELD,))
    with pytest.raises(AccountMissing):
        await posting
    assert await kept(pool) == {POOL: 5000, POOL_RESERVED: 0, HELD: 100}
    assert await post(pool, there) == [there]
    assert await kept(pool) == {POOL: 4993, POOL_RESERVED: 0, HELD: 107}


async def test_whatever_is_opened_and_moved_at_once_every_balance_is_the_sum_of_its_transfers(pool: Pool) -> None:
    """The audit after each test compares them; here nothing may deadlock or be lost on the way."""
    await post(pool, topup("seed", 10**9))
    chance, holdings = random.Random(1), [holding(f"h{n}") for n in range(6)]
    asked = []
    for n in range(150):
        some = tuple(chance.sample(holdings, 3))
        if chance.random() < 0.5:
            asked.append(post(pool, *(topup(f"{n}{code}", 1000, code) for code in some), opening=some))
        else:
            moved = [Transfer("there", f"{n}{code}", POOL, code, Msat(3)) for code in some]
            asked.append(post(pool, *moved, Transfer("back", str(n), holdings[0], POOL, Msat(1))))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(answer) for answer in answers} <= {list, AccountMissing, asyncpg.CheckViolationError}
    posted = sum(len(answer) for answer in answers if isinstance(answer, list))
    assert await pool.fetchval("select count(*) from transfers") == posted + 1
    wrong = await pool.fetch(
        "select code from accounts where limited and balance_msat <> (select coalesce(sum("
        " case when credit = code then amount_msat else -amount_msat end), 0)"
        " from transfers where code in (credit, debit))"
    )
    assert wrong == []
