"""When a destination on file is due: enough is owed, it was not rejected, and its owner has not said otherwise."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gateway import problems
from gateway.problems import Problem
from gateway.refunds.claim import claim, jobs_with_destination
from gateway.refunds.fees import FeeLimit
from ledger.database import Pool
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
        due = await jobs_with_destination(conn, min_sats)  # type: ignore[arg-type]
        await transaction.rollback()
    assert due == ([(job_id, "ann@host")] if is_due else [])


@pytest.mark.parametrize(
    ("error", "retry_at", "is_due"),
    [
        (None, None, True),
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
    assert await jobs_with_destination(pool, 1) == ([(job_id, "ann@host")] if is_due else [])


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
