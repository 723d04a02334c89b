"""The day's fee budgets and the cap on what is in flight, held between parallel claims and sends."""

from __future__ import annotations

import asyncio
import hashlib
from decimal import Decimal
from functools import partial
from typing import Any

import asyncpg
import pytest

from gateway.metrics import Metrics
from gateway.refunds.arrivals import Arrived, record_arrived
from gateway.refunds.attempt import Attempt
from gateway.refunds.claim import claim
from gateway.refunds.claim_first import claim_seen, is_first, look
from gateway.refunds.destination import Destination
from gateway.refunds.executor import RefundExecutor
from gateway.refunds.fees import FeeLimit
from gateway.refunds.history import Reached
from gateway.refunds.sends import NextSend, count_sends
from ledger import sql
from ledger.database import Pool
from lightning.fake import FakeNode
from tests.debts import OTHER_PAYEE, PAYEE, destination, job_name, owe
from tests.waiting import until_somebody_waits

_q = sql.load("gateway.refunds")
RULE = FeeLimit(10, Decimal(1), per_day_sats=55, per_destination_sats=1000)


async def seen_and_claimed(pool: Pool, job_id: str, wanted: Destination, rule: FeeLimit, min_sats: int) -> None:
    seen = await look(pool, job_id, wanted.request.payment_hash)
    assert is_first(seen, wanted, min_sats)
    await claim_seen(pool, job_id, wanted, rule, min_sats, seen)


async def claim_many(pool: Pool, numbers: range, rule: FeeLimit, payee: str = PAYEE, claiming: Any = claim) -> None:
    for number in numbers:
        await owe(pool, job_name(number), 20)
    await asyncio.gather(
        *(claiming(pool, job_name(number), destination(str(number), payee), rule, 1) for number in numbers)
    )


@pytest.fixture(params=[claim, seen_and_claimed], ids=["step by step", "in one statement"])
def claim_them(request: pytest.FixtureRequest) -> Any:
    """As `claim_many`, in both ways; the second goes the first where a budget has less left than is usual."""
    return partial(claim_many, claiming=request.param)


async def limits(pool: Pool, payee: str = PAYEE) -> list[int]:
    rows = await pool.fetch("select fee_limit_msat from refund_attempts where payee = $1", payee)
    return sorted((row["fee_limit_msat"] for row in rows), reverse=True)


async def end(pool: Pool, number: int, state: str, fee_msat: int = 0) -> None:
    """As the executor records it, books and all."""
    name, job_id = str(number), job_name(number)
    attempt_id = await pool.fetchval("select id from refund_attempts where job_id = $1", job_id)
    await pool.execute("update refund_attempts set lease_owner = 'me', lease_until = now() + interval '1 minute'")
    if state == "failed":
        await pool.execute(_q.record_failed, attempt_id, "me", "no")
        await pool.execute(_q.refunds_pending_again, attempt_id)
        return
    await pool.execute("update refund_attempts set payment_hash = $2 where id = $1", attempt_id, sha(sha(name)))
    attempt = Attempt(await pool.fetchrow("select * from refund_attempts where id = $1", attempt_id))
    async with pool.acquire() as conn:
        assert await record_arrived(conn, [Arrived(attempt, "me", sha(name), fee_msat)]) == [True]


def sha(value: str | bytes) -> bytes:
    return hashlib.sha256(value if isinstance(value, bytes) else value.encode()).digest()


async def test_parallel_claims_share_one_budget_of_the_day(pool: Pool, claim_them: Any) -> None:
    await claim_them(pool, range(20), RULE)
    assert await limits(pool) == [10_000] * 5 + [5_000] + [0] * 14
    bounds = await pool.fetch("select fee_bound from refund_attempts where fee_limit_msat < 10000")
    assert [row["fee_bound"] for row in bounds] == ["day"] * 15


async def test_parallel_claims_share_one_budget_per_payee(pool: Pool, claim_them: Any) -> None:
    rule = FeeLimit(10, Decimal(1), per_day_sats=1000, per_destination_sats=25)
    await asyncio.gather(
        claim_them(pool, range(6), rule),
        claim_them(pool, range(6, 12), rule, payee=OTHER_PAYEE),
    )
    for payee in (PAYEE, OTHER_PAYEE):
        assert await limits(pool, payee) == [10_000] * 2 + [5_000] + [0] * 3
    bounds = await pool.fetch("select distinct fee_bound from refund_attempts where fee_limit_msat < 10000")
    assert [row["fee_bound"] for row in bounds] == ["destination"]


async def test_a_limit_is_reserved_until_the_fee_is_known(pool: Pool, claim_them: Any) -> None:
    rule = FeeLimit(10, Decimal(1), per_day_sats=20, per_destination_sats=1000)
    await claim_them(pool, range(2), rule)
    await claim_them(pool, range(2, 3), rule)
    assert await limits(pool) == [10_000, 10_000, 0]
    await end(pool, 0, "paid", fee_msat=1500)
    await claim_them(pool, range(3, 4), rule)
    assert await limits(pool) == [10_000, 10_000, 8_500, 0]
    await end(pool, 1, "failed")
    await claim_them(pool, range(4, 5), rule)
    assert await limits(pool) == [10_000, 10_000, 10_000, 8_500, 0]


async def test_a_new_utc_day_has_a_new_budget(pool: Pool, claim_them: Any) -> None:
    await claim_them(pool, range(6), RULE)
    await pool.execute("update refund_attempts set fee_day = fee_day - 1")
    await claim_them(pool, range(6, 7), RULE)
    assert await limits(pool) == [10_000] * 6 + [5_000]
    today = await pool.fetchval(
        "select fee_day = (now() at time zone 'utc')::date from refund_attempts where job_id = $1", job_name(6)
    )
    assert today is True


async def test_the_database_refuses_a_limit_above_its_budget(pool: Pool) -> None:
    await claim_many(pool, range(1), RULE)
    with pytest.raises(asyncpg.CheckViolationError, match="fee_limit_within_its_budgets"):
        await pool.execute("update refund_attempts set fee_limit_msat = 55001")


@pytest.mark.parametrize("processes", [5, 1])
async def test_the_cap_on_what_is_in_flight_holds_between_processes(pool: Pool, processes: int) -> None:
    """Five processes count a send each, or one counts five together; two fit under the cap, the others wait."""
    await claim_many(pool, range(5), RULE)
    await pool.execute("update refund_attempts set lease_owner = 'me', lease_until = now() + interval '1 minute'")
    node = FakeNode()
    executors = [
        RefundExecutor(pool, node, Metrics(), 15.0, 432, 16, asyncio.Event(), in_flight_cap_sats=50)
        for _ in range(processes)
    ]
    rows = await pool.fetch("select *, now() as now from refund_attempts")
    counted = await asyncio.gather(
        *(executors[place % processes]._counted(Attempt(row), "me") for place, row in enumerate(rows))
    )
    assert sum(row is not None for row in counted) == 2
    assert await pool.fetchval("select sum(amount_sats) from refund_attempts where sends = 1") == 40


async def test_a_send_waits_for_the_sum_that_another_process_commits(pool: Pool) -> None:
    await claim_many(pool, range(3), RULE)
    await pool.execute("update refund_attempts set lease_owner = 'me', lease_until = now() + interval '1 minute'")
    first, second, third = (
        NextSend(Attempt(row), "me", Reached("node", 0))
        for row in await pool.fetch("select *, now() as now from refund_attempts order by job_id")
    )
    async with pool.acquire() as one, pool.acquire() as two:
        transaction = one.transaction()
        await transaction.start()
        assert [row["sends"] for row in await count_sends(one, [first, second], 50, 15.0)] == [1, 1]
        waiting = asyncio.create_task(count_sends(two, [third], 50, 15.0))
        await until_somebody_waits(pool)
        await transaction.commit()
        assert await waiting == [None]
