"""The first claim on a job in one statement: what it writes, and what it does when something changed since the look."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from gateway import problems
from gateway.problems import Problem
from gateway.refunds.claim import claim
from gateway.refunds.claim_first import Seen, claim_seen, is_first, look
from gateway.refunds.destination import Destination
from gateway.refunds.donate import donate_refund
from gateway.refunds.fees import LOCK_ID, FeeLimit
from ledger import sql
from ledger.database import Pool
from tests.debts import destination, job_name, owe, owe_more
from tests.waiting import until_somebody_waits

_q = sql.load("gateway.refunds")
RULE = FeeLimit(10, Decimal(1), per_day_sats=1000, per_destination_sats=500)
JOB, OTHER = job_name(1), job_name(2)


async def seen(pool: Pool, job_id: str, wanted: Destination) -> Seen:
    return await look(pool, job_id, wanted.request.payment_hash)


async def attempts(pool: Pool, job_id: str) -> list[dict[str, Any]]:
    """Without what differs from claim to claim."""
    rows = await pool.fetch("select * from refund_attempts where job_id = $1 order by created_at", job_id)
    others = {"id", "created_at", "next_look_at", "job_id", "of_job", "destination", "payment_request", "payment_hash"}
    return [{name: value for name, value in row.items() if name not in {*others, "expires_at"}} for row in rows]


async def refunds(pool: Pool, job_id: str) -> dict[str, tuple[str, int | None]]:
    rows = await pool.fetch(
        "select refund.id, refund.state, attempt.amount_sats from refunds refund"
        " left join refund_attempts attempt on attempt.id = refund.attempt_id where refund.job_id = $1",
        job_id,
    )
    return {row["id"]: (row["state"], row["amount_sats"]) for row in rows}


async def test_it_writes_what_the_long_way_writes(pool: Pool) -> None:
    for job_id in (JOB, OTHER):
        await owe(pool, job_id, 20)
        await owe_more(pool, job_id, 7, f"late:{job_id}", f"second-{job_id}")
        await pool.execute("update jobs set refund_to = 'x@y', refund_to_error = 'no' where id = $1", job_id)
    wanted = destination("one")
    await claim_seen(pool, JOB, wanted, RULE, 1, await seen(pool, JOB, wanted))
    await claim(pool, OTHER, destination("two"), RULE, 1)
    assert await attempts(pool, JOB) == await attempts(pool, OTHER) != []
    assert await refunds(pool, JOB) == {f"refund-{JOB}": ("paying", 27), f"second-{JOB}": ("paying", 27)}
    on_file = await pool.fetch("select refund_to, refund_to_error, updated_at > created_at as told from jobs")
    assert [tuple(row) for row in on_file] == [(None, None, True)] * 2


async def test_a_debt_that_came_since_is_claimed_too(pool: Pool) -> None:
    await owe(pool, JOB, 20)
    wanted = destination("one")
    before = await seen(pool, JOB, wanted)
    await owe_more(pool, JOB, 7, "late:x", "second")
    await claim_seen(pool, JOB, wanted, RULE, 1, before)
    assert await refunds(pool, JOB) == {f"refund-{JOB}": ("paying", 27), "second": ("paying", 27)}


async def test_a_debt_that_was_given_away_since_is_not_claimed(pool: Pool) -> None:
    """Even if the job looks as it did."""
    await owe(pool, JOB, 20)
    wanted = destination("one")
    before = await seen(pool, JOB, wanted)
    await donate_refund(pool, JOB, 1000)
    await pool.execute("update jobs set updated_at = $2 where id = $1", JOB, before.changed_at)
    with pytest.raises(Problem) as refused:
        await claim_seen(pool, JOB, wanted, RULE, 1, before)
    assert refused.value.type is problems.NOTHING_TO_REFUND
    assert await attempts(pool, JOB) == []


async def test_an_invoice_that_another_job_gave_meanwhile_is_refused(pool: Pool) -> None:
    await owe(pool, JOB, 20)
    await owe(pool, OTHER, 20)
    wanted = destination("one")
    before = await seen(pool, JOB, wanted)
    await claim(pool, OTHER, wanted, RULE, 1)
    with pytest.raises(Problem) as refused:
        await claim_seen(pool, JOB, wanted, RULE, 1, before)
    assert refused.value.type is problems.DESTINATION_USED
    assert await refunds(pool, JOB) == {f"refund-{JOB}": ("pending", None)}


async def test_two_invoices_that_saw_the_same_debt_pay_one(pool: Pool) -> None:
    await owe(pool, JOB, 20)
    wanted = [destination(f"n{number}") for number in range(8)]
    looks = [await seen(pool, JOB, one) for one in wanted]
    claims = (claim_seen(pool, JOB, one, RULE, 1, saw) for one, saw in zip(wanted, looks, strict=True))
    ends = await asyncio.gather(*claims, return_exceptions=True)
    refusals = [end for end in ends if isinstance(end, Problem)]
    assert (ends.count(None), len(refusals)) == (1, 7)
    assert len(await attempts(pool, JOB)) == 1


async def test_it_waits_for_who_holds_the_job_and_looks_again(pool: Pool) -> None:
    await owe(pool, JOB, 20)
    wanted = destination("one")
    before = await seen(pool, JOB, wanted)
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute(_q.lock_job, JOB)
        await owe_more(conn, JOB, 7, "late:x", "second")
        waiting = asyncio.create_task(claim_seen(pool, JOB, wanted, RULE, 1, before))
        await until_somebody_waits(pool)
        await transaction.commit()
    await waiting
    assert await refunds(pool, JOB) == {f"refund-{JOB}": ("paying", 27), "second": ("paying", 27)}


async def test_it_waits_for_whoever_is_granted_a_fee_and_counts_it(pool: Pool) -> None:
    """The other grant is not committed yet; with it, less than the usual limit is left."""
    rule = FeeLimit(10, Decimal(1), per_day_sats=15, per_destination_sats=500)
    await owe(pool, JOB, 20)
    await owe(pool, OTHER, 20)
    wanted = destination("one")
    before = await seen(pool, JOB, wanted)
    release, holds = asyncio.Event(), asyncio.Event()

    async def other() -> None:
        async with pool.acquire() as conn, conn.transaction():
            await conn.execute(_q.fees_counted, LOCK_ID, None)
            await conn.execute(
                _q.pin,
                "other",
                OTHER,
                "ln",
                "ln",
                bytes(32),
                20,
                True,
                10_000,
                await conn.fetchval("select now()"),
                None,
                None,
                None,
                None,
                [f"refund-{OTHER}"],
                None,
            )
            holds.set()
            await release.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(other())
        await holds.wait()
        waiting = group.create_task(claim_seen(pool, JOB, wanted, rule, 1, before))
        await until_somebody_waits(pool)
        release.set()
        await waiting
    assert [(row["fee_limit_msat"], row["fee_bound"]) for row in await attempts(pool, JOB)] == [(5_000, "day")]


async def test_a_second_claim_goes_the_long_way(pool: Pool) -> None:
    await owe(pool, JOB, 20)
    assert is_first(await seen(pool, JOB, destination("one")), destination("one"), 1)
    await claim(pool, JOB, destination("one"), RULE, 1)
    await owe_more(pool, JOB, 7, "late:x", "second")
    assert not is_first(await seen(pool, JOB, destination("two")), destination("two"), 1)
    assert (await seen(pool, "nobody", destination("two"))).changed_at is None
