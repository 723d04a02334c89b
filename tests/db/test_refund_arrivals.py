"""Payments that arrived, recorded in groups: each once, by the lease that has it, whatever stands beside it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import asyncpg
import pytest
import pytest_asyncio

from gateway.metrics import Metrics
from gateway.refunds.arrivals import Arrived, record_arrived
from gateway.refunds.attempt import Attempt
from gateway.refunds.executor import RefundExecutor
from ledger import book, sql
from ledger.database import Pool
from ledger.groups import Groups
from ledger.money import Msat
from ledger.transfers import Transfer, refund_paid
from lightning.node import Node
from tests.debts import job_name, owe
from tests.waiting import until_somebody_waits

_q = sql.load("gateway.refunds")
JOBS = [job_name(number) for number in range(4)]


def executor(pool: Pool) -> RefundExecutor:
    """Its node is never asked here."""
    return RefundExecutor(pool, cast("Node", SimpleNamespace()), Metrics(), 15.0, 432, 8, asyncio.Event())


@pytest_asyncio.fixture
async def sent(pool: Pool) -> list[Arrived]:
    """A refund of 5 sats of each job, each sent once under the lease `me`."""
    for job_id in JOBS:
        await owe(pool, job_id, 5)
        await pool.execute(
            "insert into refund_attempts (id, job_id, destination, payment_request, payment_hash, amount_sats,"
            " amountless, fee_limit_msat, expires_at, lease_owner, lease_until, sends)"
            " values ($1, $1, 'ln', 'ln', $2, 5, false, 10000, now(), 'me', now() + interval '1 minute', 1)",
            job_id,
            hashlib.sha256(job_id.encode()).digest(),
        )
        await pool.execute("update refunds set state = 'paying', attempt_id = job_id where job_id = $1", job_id)
    rows = await pool.fetch("select *, now() as now from refund_attempts order by id")
    return [Arrived(Attempt(row), "me", str(row["id"]).encode(), 3) for row in rows]


async def standing(pool: Pool) -> dict[str, tuple[str, str]]:
    """By job: how its attempt and its refund stand."""
    rows = await pool.fetch(
        "select attempt.id, attempt.state, refund.state as refund"
        " from refund_attempts attempt join refunds refund on refund.attempt_id = attempt.id"
    )
    return {row["id"]: (row["state"], row["refund"]) for row in rows}


async def test_one_wrong_preimage_spoils_no_other(pool: Pool, sent: list[Arrived]) -> None:
    arrivals = executor(pool)._arrivals
    asked = [replace(one, preimage=b"wrong") if one is sent[1] else one for one in sent]
    answers = await asyncio.gather(*(arrivals.submit(one) for one in asked), return_exceptions=True)
    assert [answer is True for answer in answers] == [True, False, True, True]
    assert isinstance(answers[1], asyncpg.CheckViolationError)
    assert await standing(pool) == {
        job_id: (("unfinished", "paying") if job_id == JOBS[1] else ("paid", "paid")) for job_id in JOBS
    }


async def test_only_the_living_lease_is_told_that_it_recorded(pool: Pool, sent: list[Arrived]) -> None:
    stale = replace(sent[0], owner="before")
    async with pool.acquire() as conn, conn.transaction():
        assert await record_arrived(conn, [stale, sent[0], sent[1]]) == [False, True, True]
    async with pool.acquire() as conn, conn.transaction():
        assert await record_arrived(conn, [sent[0], sent[2]]) == [False, True]
    assert await pool.fetchval("select count(*) from transfers where cause_kind = 'refund_paid'") == 3


async def test_two_executors_record_the_same_arrivals_once(pool: Pool, sent: list[Arrived]) -> None:
    first, second = executor(pool), executor(pool)
    asked = [(first, one) for one in sent] + [(second, one) for one in reversed(sent)]
    answers = await asyncio.gather(*(who._arrivals.submit(one) for who, one in asked))
    assert sum(answers) == len(JOBS)
    assert await pool.fetchval("select count(*) from transfers where cause_kind = 'refund_paid'") == len(JOBS)
    assert await pool.fetchval("select sum(amount_msat) from transfers where cause_kind = 'routing_fee'") == 12


async def test_a_commit_of_unknown_outcome_is_not_booked_twice(pool: Pool, sent: list[Arrived]) -> None:
    lost: list[int] = []

    class Breaking(Groups[Arrived, bool]):
        async def _apply_to(self, asks: Sequence[Arrived]) -> list[bool]:
            answers = await super()._apply_to(asks)
            if not lost:
                lost.append(len(asks))
                raise ConnectionError("the answer to COMMIT was lost")
            return answers

    arrivals = Breaking(pool, record_arrived, one_statement=True)
    await asyncio.gather(*(arrivals.submit(one) for one in sent))
    assert lost
    assert set((await standing(pool)).values()) == {("paid", "paid")}
    assert await pool.fetchval("select count(*) from transfers where cause_kind = 'refund_paid'") == len(JOBS)


async def test_an_arrival_waits_for_its_job(pool: Pool, sent: list[Arrived]) -> None:
    """Whoever has the job's lock may be giving another destination: nothing of its attempts changes meanwhile."""
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("select from jobs where id = $1 for no key update", JOBS[2])
        recording = asyncio.create_task(executor(pool)._arrivals.submit(sent[2]))
        await until_somebody_waits(pool)
        assert await pool.fetchval("select true from refund_attempts where id = $1 for update skip locked", JOBS[2])
    assert await recording
    assert (await standing(pool))[JOBS[2]] == ("paid", "paid")


async def test_owners_are_locked_by_their_ids(pool: Pool, sent: list[Arrived]) -> None:
    async def recorded() -> list[bool]:
        async with pool.acquire() as conn:
            return await record_arrived(conn, sent[::-1])

    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("select from jobs where id = $1 for no key update", JOBS[1])
        waiting = asyncio.create_task(recorded())
        await until_somebody_waits(pool)
        free = "select id from jobs order by id for no key update skip locked"
        assert [row["id"] for row in await pool.fetch(free)] == JOBS[2:]
    assert await waiting == [True] * len(JOBS)


async def test_an_attempt_that_ended_while_its_arrival_waited_is_not_paid(pool: Pool, sent: list[Arrived]) -> None:
    """The statement's snapshot is older than its locks: it looks at the attempt as it is now."""
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("select from jobs where id = $1 for no key update", JOBS[2])
        recording = asyncio.create_task(executor(pool)._arrivals.submit(sent[2]))
        await until_somebody_waits(pool)
        assert await conn.fetchval(_q.record_failed, JOBS[2], "me", "no route") == JOBS[2]
        await conn.execute(_q.refunds_pending_again, JOBS[2])
    assert await recording is False
    assert await pool.fetchval("select state from refunds where job_id = $1", JOBS[2]) == "pending"
    assert await pool.fetchval("select count(*) from transfers where cause_kind = 'refund_paid'") == 0


async def test_an_arrival_that_can_not_be_booked_whole_is_not_recorded_either(pool: Pool, sent: list[Arrived]) -> None:
    there = Transfer("refund_paid", JOBS[2], "capital", "pool", Msat(1))
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        assert await book.post(conn, [there]) == [there]
        with pytest.raises(asyncpg.CheckViolationError, match="booked whole"):
            async with conn.transaction():
                await record_arrived(conn, sent)
        await transaction.rollback()
    assert set((await standing(pool)).values()) == {("unfinished", "paying")}


async def test_what_is_booked_is_what_the_attempt_was_for(pool: Pool, sent: list[Arrived]) -> None:
    """The executor has its row in memory; the statement compares."""
    other = replace(sent[0], attempt=Attempt({**sent[0].attempt.row, "amount_sats": 6}))
    async with pool.acquire() as conn:
        with pytest.raises(asyncpg.CheckViolationError, match="its attempt was for"):
            await record_arrived(conn, [other, sent[1]])
    assert set((await standing(pool)).values()) == {("unfinished", "paying")}


async def test_an_arrival_that_stands_twice_in_a_group_is_booked_once(pool: Pool, sent: list[Arrived]) -> None:
    arrivals = executor(pool)._arrivals
    answers = await asyncio.gather(*(arrivals.submit(one) for one in [sent[0], sent[0], sent[1]]))
    assert sorted(answers) == [False, True, True]
    assert await pool.fetchval("select count(*) from transfers where cause_kind = 'refund_paid'") == 2


@pytest.mark.parametrize("booked", [(), refund_paid(JOBS[0], Msat(5000), 2), refund_paid(JOBS[0], Msat(4000), 3)])
async def test_nothing_and_another_sum_are_not_booked(
    pool: Pool, sent: list[Arrived], booked: tuple[Transfer, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.refunds.arrivals._refund_paid", lambda _: booked)
    async with pool.acquire() as conn:
        with pytest.raises(asyncpg.CheckViolationError, match="its attempt was for"):
            await record_arrived(conn, sent[:1])
    assert (await standing(pool))[JOBS[0]] == ("unfinished", "paying")
