"""The guards of a refund attempt in the database, each on its own: lease, counted send, one hash, one open attempt."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from gateway import problems
from gateway.metrics import Metrics
from gateway.problems import Problem
from gateway.refunds.arrivals import Arrived, record_arrived
from gateway.refunds.attempt import Attempt
from gateway.refunds.claim import Claimed, claim
from gateway.refunds.executor import RefundExecutor
from gateway.refunds.fees import FeeLimit
from gateway.refunds.history import Reached
from gateway.refunds.sends import LEASE_LOST, SENDS_LOCK_ID, NextSend, count_sends
from ledger import sql
from ledger.database import Pool
from lightning.fake import FakeNode
from tests.debts import destination, owe, owe_more
from tests.waiting import until_somebody_waits

_q = sql.load("gateway.refunds")
JOB = "a-job-of-twenty-two-ch"


async def insert_attempt(pool: Pool, attempt_id: str, payment_hash: bytes) -> None:
    await pool.execute(
        _q.pin,
        attempt_id,
        JOB,
        "ln",
        "ln",
        payment_hash,
        5,
        False,
        10_000,
        await pool.fetchval("select now()"),
        None,
        None,
        None,
        None,
        [],
        None,
    )


@pytest_asyncio.fixture
async def attempt(pool: Pool) -> str:
    """An unfinished attempt over a refund that is booked."""
    await owe(pool, JOB, 5)
    await insert_attempt(pool, "attempt", hashlib.sha256(b"refund").digest())
    await pool.execute("update refunds set state = 'paying', attempt_id = 'attempt'")
    return "attempt"


async def lease(pool: Pool, owner: str) -> list[str]:
    return [row["id"] for row in await pool.fetch(_q.lease_due, owner, 15.0, 10)]


async def lapse(pool: Pool) -> None:
    await pool.execute("update refund_attempts set lease_until = clock_timestamp()")


CountSend = Callable[[str, int], Awaitable[Any]]


@pytest.fixture(params=[1_000_000, 1], ids=["in one statement", "one by one"])
def count_send(pool: Pool, request: pytest.FixtureRequest) -> CountSend:
    """By `(owner, sends so far)`: the row, or None. Sends that may be too many together are counted one by one."""

    async def count_send(owner: str, sends: int) -> Any:
        attempt = Attempt({"id": "attempt", "amount_sats": 5, "sends": sends})
        async with pool.acquire() as conn:
            (counted,) = await count_sends(conn, [NextSend(attempt, owner, Reached("node", 7))], request.param, 15.0)
        assert counted is not None
        return None if counted is LEASE_LOST else counted

    return count_send


async def test_a_living_lease_is_not_taken(pool: Pool, attempt: str) -> None:
    assert await lease(pool, "first") == [attempt]
    assert await lease(pool, "second") == []
    await lapse(pool)
    assert await lease(pool, "second") == [attempt]


async def test_a_send_is_counted_only_by_who_holds_the_lease(pool: Pool, attempt: str, count_send: CountSend) -> None:
    await lease(pool, "first")
    assert await count_send("second", 0) is None
    assert await count_send("first", 1) is None
    counted = await count_send("first", 0)
    assert counted is not None
    assert (counted["sends"], counted["node_pubkey"], counted["highest_payment_index"]) == (1, "node", 7)
    await lapse(pool)
    await lease(pool, "second")
    assert await count_send("first", 0) is None


async def test_a_count_whose_answer_was_lost_is_found_again(pool: Pool, attempt: str, count_send: CountSend) -> None:
    """The commit stands, the connection died before it said so; a lease is for one send, so that one has not left."""
    await lease(pool, "first")
    await count_send("first", 0)
    again = await count_send("first", 0)
    assert again is not None
    assert again["sends"] == 1
    assert await count_send("first", 2) is None


@asynccontextmanager
async def waiting_for_its_turn(pool: Pool, count_send: CountSend) -> AsyncIterator[asyncio.Task[Any]]:
    """The first send's count, while another holds the lock of all sends."""
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(_q.sends_in_flight, SENDS_LOCK_ID)
        counting: asyncio.Task[Any] = asyncio.ensure_future(count_send("first", 0))
        await until_somebody_waits(pool)
        yield counting


async def test_a_lease_that_ends_while_the_lock_is_waited_for_sends_nothing(
    pool: Pool, attempt: str, count_send: CountSend
) -> None:
    """Whoever took the attempt over could send at the same time."""
    await lease(pool, "first")
    async with waiting_for_its_turn(pool, count_send) as counting:
        await lapse(pool)
    assert await counting is None


async def test_a_lease_is_renewed_by_the_clock_of_after_the_wait(
    pool: Pool, attempt: str, count_send: CountSend
) -> None:
    await lease(pool, "first")
    async with waiting_for_its_turn(pool, count_send) as counting:
        waited_until = await pool.fetchval("select clock_timestamp()")
    counted = await counting
    assert counted["lease_until"] - timedelta(seconds=15) > waited_until
    assert counted["now"] > waited_until


async def test_nothing_is_sent_under_a_lease_that_is_over_when_its_send_is_counted(pool: Pool, attempt: str) -> None:
    """It stays unfinished, and the next look decides."""
    await lease(pool, "first")
    await pool.execute("update refund_attempts set expires_at = now() + interval '1 hour'")
    node = FakeNode()
    executor = RefundExecutor(pool, node, Metrics(), 0.0, 432, 16, asyncio.Event())
    leased = Attempt(await pool.fetchrow("select *, now() as now from refund_attempts"))
    with pytest.raises(RuntimeError, match="nothing was sent"):
        await executor.advance(leased, "first")
    assert node.sent == []
    assert await pool.fetchval("select (state, sends) = ('unfinished', 1) from refund_attempts")


async def test_no_send_after_the_lease_is_over(pool: Pool, attempt: str, count_send: CountSend) -> None:
    await lease(pool, "first")
    await lapse(pool)
    assert await count_send("first", 0) is None


async def test_an_end_is_recorded_only_by_who_holds_the_lease(pool: Pool, attempt: str) -> None:
    await lease(pool, "first")
    assert await pool.fetchval(_q.record_failed, attempt, "second", "x") is None
    assert await pool.fetchval(_q.record_frozen, attempt, "second", "x") is None
    leased = Attempt(await pool.fetchrow("select * from refund_attempts where id = $1", attempt))
    async with pool.acquire() as conn:
        assert await record_arrived(conn, [Arrived(leased, "second", b"refund", 0)]) == [False]
    with pytest.raises(asyncpg.CheckViolationError):
        await pool.execute("update refund_attempts set state = 'paid', preimage = 'wrong', fee_msat = 0")


async def test_one_open_attempt_per_job_and_one_attempt_per_hash(pool: Pool, attempt: str) -> None:
    with pytest.raises(asyncpg.UniqueViolationError, match="one_open_attempt_per_job"):
        await insert_attempt(pool, "other", hashlib.sha256(b"other").digest())
    await pool.execute("update refunds set state = 'pending', attempt_id = null")
    await pool.execute("update refund_attempts set state = 'failed', failure_reason = 'x'")
    with pytest.raises(asyncpg.UniqueViolationError, match="payment_hash"):
        await insert_attempt(pool, "other", hashlib.sha256(b"refund").digest())


async def test_a_new_destination_waits_for_the_end_of_a_failed_attempts_lease(pool: Pool, attempt: str) -> None:
    """Whoever held it may still be about to send."""
    await pool.execute("update refunds set state = 'pending', attempt_id = null")
    await pool.execute(
        "update refund_attempts set state = 'failed', failure_reason = 'x', lease_until = now() + interval '1 hour'"
    )
    rule = FeeLimit(10, Decimal(1))
    with pytest.raises(Problem) as refused:
        await claim(pool, JOB, destination("new"), rule, 1)
    assert refused.value.type is problems.REFUND_IN_PROGRESS
    await lapse(pool)
    assert await claim(pool, JOB, destination("new"), rule, 1) is Claimed.STARTED


@pytest.mark.parametrize("state", ["unfinished", "frozen"])
async def test_a_new_destination_is_refused_while_an_attempt_is_open(pool: Pool, attempt: str, state: str) -> None:
    """A second debt of the job waits, too."""
    await owe_more(pool, JOB, 7, "late:second", "second")
    await pool.execute("update refund_attempts set state = $1, failure_reason = 'x'", state)
    with pytest.raises(Problem) as refused:
        await claim(pool, JOB, destination("new"), FeeLimit(10, Decimal(1)), 1)
    assert refused.value.type is problems.REFUND_IN_PROGRESS
