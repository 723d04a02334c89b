"""A destination on file waits as long as less than the minimum is owed on its job, all its refunds together."""

from __future__ import annotations

import pytest

from gateway.refunds.claim import jobs_with_destination
from ledger.database import Pool


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
