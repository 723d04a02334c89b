"""When a destination on file is due: enough is owed, it was not rejected, and its owner has not said otherwise."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from gateway import problems
from gateway.metrics import Metrics
from gateway.problems import Problem
from gateway.refunds.attempt import Attempt
from gateway.refunds.claim import Claimed, ask_later, claim, due_on_file, keep_address
from gateway.refunds.decisions import EXPIRED_UNSENT
from gateway.refunds.executor import RefundExecutor
from gateway.refunds.fees import FeeLimit
from ledger.database import Pool
from lightning.fake import FakeNode
from tests.debts import destination, job_name, owe


@pytest.mark.parametrize(("min_sats", "is_due"), [(1, True), (70, True), (71, False)])
async def test_the_pending_refunds_of_a_job_count_together(pool: Pool, min_sats: int, is_due: bool) -> None:
    job_id = "job-of-twenty-two-chars"
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute(
            "insert into jobs (id, work, input, state, serve, estimate_sats, work_amount_sats, token_hash,"
            " client_address, refund_to, failure_reason)"
            " values ($1, 'echo', '{}', 'failed', 'gate', 100, 100, sha256('token'), '127.0.0.1', 'ann@host', 'no')",
            job_id,
        )
        await conn.execute(
            "insert into refunds (id, job_id, cause, amount_sats) values ('a', $1, 'a', 30), ('b', $1, 'b', 40)", job_id
        )
        due = await due_on_file(conn, min_sats)
        await transaction.rollback()
    assert due == ([(job_id, "ann@host")] if is_due else [])


@pytest.mark.parametrize(
    ("error", "retry_at", "is_due"),
    [
        (None, None, True),
        (None, "now() + interval '1 hour'", False),
        (None, "now() - interval '1 second'", True),
        ("no route", None, False),
        ("no budget", "now() + interval '1 hour'", False),
        ("no budget", "now() - interval '1 second'", True),
    ],
)
async def test_a_rejected_destination_waits_unless_its_time_has_come(
    pool: Pool, error: str | None, retry_at: str | None, is_due: bool
) -> None:
    job_id = job_name(1)
    await owe(pool, job_id, 70)
    await pool.execute(
        f"update jobs set refund_to = 'ann@host', refund_to_error = $1, refund_to_retry_at = {retry_at or 'null'}",  # noqa: S608
        error,
    )
    assert await due_on_file(pool, 1) == ([(job_id, "ann@host")] if is_due else [])


async def test_a_claim_from_the_file_is_void_once_its_owner_said_otherwise(pool: Pool) -> None:
    job_id, given, rule = job_name(1), destination("on file"), FeeLimit(10, Decimal(1))
    await owe(pool, job_id, 70)
    await pool.execute("update jobs set refund_to = 'bob@host'")
    with pytest.raises(Problem) as refused:
        await claim(pool, job_id, given, rule, 1, from_file=True)
    assert refused.value.type is problems.REFUND_IN_PROGRESS
    assert await pool.fetchval("select refund_to from jobs") == "bob@host"
    await pool.execute("update jobs set refund_to = $1", given.text)
    await claim(pool, job_id, given, rule, 1, from_file=True)
    assert await pool.fetchval("select refund_to from jobs") is None


async def test_an_address_that_nothing_was_sent_to_in_time_is_asked_again_soon(pool: Pool) -> None:
    """LND was away, or as much as may be was in flight, until its invoice had expired: no fault of the address."""
    job_id, given = job_name(1), replace(destination("its invoice"), text="ann@host")
    await owe(pool, job_id, 70)
    await pool.execute("update jobs set refund_to = 'ann@host'")
    await claim(pool, job_id, given, FeeLimit(10, Decimal(1)), 1, from_file=True)
    await pool.execute(
        "update refund_attempts set expires_at = now(), lease_owner = 'me', lease_until = now() + interval '1 minute'"
    )
    executor = RefundExecutor(pool, FakeNode(), Metrics(), 15.0, 432, 16, asyncio.Event())
    await executor.advance(Attempt(await pool.fetchrow("select *, now() as now from refund_attempts")), "me")
    told = await pool.fetchrow(
        "select refund_to_error, refund_to_retry_at - now() between '30 s' and '90 s' as soon from jobs"
    )
    assert tuple(told) == (EXPIRED_UNSENT, True)
    assert await due_on_file(pool, 1) == []
    await pool.execute("update jobs set refund_to_retry_at = now()")
    assert await due_on_file(pool, 1) == [(job_id, "ann@host")]


async def test_the_address_that_was_claimed_for_is_the_same_answer_again(pool: Pool) -> None:
    """Whoever gave it did not hear the answer, and asks again."""
    job_id, given, rule = job_name(1), replace(destination("its invoice"), text="ann@host"), FeeLimit(10, Decimal(1))
    await owe(pool, job_id, 70)
    assert await claim(pool, job_id, given, rule, 1) is Claimed.STARTED
    assert await keep_address(pool, job_id, "ann@host") is Claimed.ALREADY
    assert await claim(pool, job_id, replace(destination("another"), text="ann@host"), rule, 1) is Claimed.ALREADY
    for other in ("bob@host", "ann@other"):
        with pytest.raises(Problem) as refused:
            await keep_address(pool, job_id, other)
        assert refused.value.type is problems.REFUND_IN_PROGRESS
    assert await pool.fetchval("select refund_to from jobs") == "ann@host"


async def test_those_that_do_not_answer_take_no_turn_of_those_who_were_never_asked(pool: Pool) -> None:
    for number in range(6):
        await owe(pool, job_name(number), 70)
    await pool.execute("update jobs set refund_to = 'ann@host'")
    for number in range(5):
        await ask_later(pool, job_name(number), "ann@host", 3600)
    assert await due_on_file(pool, 1) == [(job_name(5), "ann@host")]
    await pool.execute(
        "update jobs set refund_to_retry_at = now() - interval '1 second' where refund_to_retry_at > now()"
    )
    assert await due_on_file(pool, 1, most=1) == [(job_name(5), "ann@host")]
    assert len(await due_on_file(pool, 1, [job_name(5), job_name(0)])) == 4
