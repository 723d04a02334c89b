"""Works that end in groups: each ends once, and a late result changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from gateway.jobs import finish
from gateway.jobs.decisions import Completion
from gateway.jobs.finish import Run
from gateway.jobs.finish_group import DoneWork, complete_group
from ledger import book, transfers
from ledger.money import Msat
from ledger.transfers import Transfer
from tests.waiting import PATIENCE_S, until_somebody_waits
from tests.web.conftest import Web

SHARE = Decimal("0.05")


async def running(web: Web, count: int) -> list[tuple[dict[str, Any], Run]]:
    """Paid jobs whose worker does not answer, each with a run of it that is the current one."""
    jobs = [await web.paid({"hold": True}) for _ in range(count)]
    async with asyncio.timeout(PATIENCE_S):
        while len(web.service.orders) < count:
            await asyncio.sleep(0.02)
    runs = [await finish.begin_run(web.gateway.pool, str(job["id"])) for job in jobs]
    return [(job, run) for job, run in zip(jobs, runs, strict=True) if run is not None]


async def ended(web: Web, works: Sequence[DoneWork]) -> list[bool]:
    async with web.gateway.pool.acquire() as conn:
        return await complete_group(conn, works)


async def test_a_group_ends_each_once_and_discards_what_is_late(web: Web) -> None:
    (first, of_first), (second, of_second) = await running(web, 2)
    late = DoneWork(replace(of_first, attempt=of_first.attempt - 1), {"late": True}, 5, SHARE)
    assert await ended(web, [late]) == [False]
    assert await finish.complete(web.gateway.pool, late.run, {"late": True}, 5, SHARE) is False
    works = [
        DoneWork(of_first, {"right": True}, 40, SHARE),
        DoneWork(of_first, {"twice": True}, 40, SHARE),
        DoneWork(of_second, {"over": True}, 130, SHARE),
        DoneWork(replace(of_second, job_id="nobody's"), {}, 1, SHARE),
    ]
    assert await ended(web, works) == [True, False, True, False]
    assert await ended(web, works) == [False] * 4
    done = await web.until(first, state="complete", refundState="pending", refundAmountSats=60)
    assert (done["result"], done["userChargeSats"]) == ({"right": True}, 40)
    done = await web.until(second, state="complete", refundState="none", refundAmountSats=0)
    assert (done["actualCostSats"], done["userChargeSats"]) == (100, 100)
    web.service.release.set()


async def test_its_end_is_told_before_what_is_owed(web: Web) -> None:
    """As when it ends alone: who sorts by time reads of a refund of a job that is complete."""
    ((_, of_first), (_, of_second)) = await running(web, 2)
    await web.gateway.pool.execute(
        "insert into webhook_endpoints (id, url, events) values ($1, 'http://127.0.0.1:9/', '{*}')", "e" * 22
    )
    assert await ended(web, [DoneWork(of_first, {}, 40, SHARE)]) == [True]
    assert await finish.complete(web.gateway.pool, of_second, {}, 40, SHARE)
    rows = await web.gateway.pool.fetch("select type from webhook_events order by created_at")
    assert [row["type"] for row in rows] == ["job.complete", "refund.pending"] * 2
    web.service.release.set()


async def test_what_is_held_otherwise_than_it_was_thought_is_left_out(web: Web) -> None:
    """Its charge and its rest were made up for another sum; by itself it ends right."""
    ((job, run),) = await running(web, 1)
    for held_msat in (run.held_msat - 1000, run.held_msat + 1000):
        assert await ended(web, [DoneWork(replace(run, held_msat=held_msat), {}, 30, SHARE)]) == [False]
    assert (await web.job(job))["state"] == "executing"
    assert await finish.complete(web.gateway.pool, run, {}, 30, SHARE)
    await web.until(job, state="complete", refundAmountSats=70)
    web.service.release.set()


async def test_what_is_held_is_looked_at_under_its_lock(web: Web) -> None:
    """Another moves the holding, and commits while the group waits for it."""
    ((_, run),) = await running(web, 1)
    there = [Transfer("there", "t", "capital", transfers.holding(run.job_id), Msat(5000))]
    back = [Transfer("back", "t", transfers.holding(run.job_id), "capital", Msat(5000))]
    async with web.gateway.pool.acquire() as conn:
        async with conn.transaction():
            await book.post(conn, there)
            waiting = asyncio.create_task(ended(web, [DoneWork(run, {}, 30, SHARE)]))
            await until_somebody_waits(web.gateway.pool)
        assert await waiting == [False]
        await book.post(conn, back)
    assert await ended(web, [DoneWork(run, {}, 30, SHARE)]) == [True]
    web.service.release.set()


@pytest.mark.parametrize("waits_for", ["job", "holding", "pool"])
async def test_jobs_are_locked_first_and_the_pool_last(web: Web, waits_for: str) -> None:
    ((_, run),) = await running(web, 1)
    locks = {
        "job": ("select id from jobs where id = $1 for no key update", run.job_id),
        "holding": ("select code from accounts where code = $1 for no key update", transfers.holding(run.job_id)),
        "pool": ("select code from accounts where code = $1 for no key update", "pool"),
    }
    async with web.gateway.pool.acquire() as conn, conn.transaction():
        await conn.execute(*locks[waits_for])
        waiting = asyncio.create_task(ended(web, [DoneWork(run, {}, 30, SHARE)]))
        await until_somebody_waits(web.gateway.pool)
        free = [name for name, (lock, key) in locks.items() if await web.gateway.pool.fetch(f"{lock} skip locked", key)]
    assert await waiting == [True]
    assert free == list(locks)[list(locks).index(waits_for) + 1 :]
    web.service.release.set()


def nothing(*_: object) -> list[Transfer]:
    return []


def only_the_charge(job_id: str, done: Completion, _: Decimal) -> list[Transfer]:
    return [*transfers.charge(job_id, done.user_charge_sats * 1000, 0)]


@pytest.mark.parametrize("moved_by", [nothing, only_the_charge])
async def test_a_job_that_ends_holds_nothing(web: Web, moved_by: object, monkeypatch: pytest.MonkeyPatch) -> None:
    ((job, run),) = await running(web, 1)
    with monkeypatch.context() as patch:
        patch.setattr("gateway.jobs.finish_group.moved_by", moved_by)
        with pytest.raises(asyncpg.CheckViolationError, match="charged or owed back"):
            await ended(web, [DoneWork(run, {}, 30, SHARE)])
    assert ((await web.job(job))["state"], (await web.job(job))["refundState"]) == ("executing", "none")
    assert await ended(web, [DoneWork(run, {}, 30, SHARE)]) == [True]
    web.service.release.set()


async def test_an_end_that_can_not_be_booked_whole_is_none(web: Web) -> None:
    """A cause of it stands in the book already, which nothing of ours does."""
    ((job, run),) = await running(web, 1)
    async with web.gateway.pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        there = Transfer("charge", run.job_id, "capital", "pool", Msat(1))
        assert await book.post(conn, [there]) == [there]
        with pytest.raises(asyncpg.CheckViolationError, match="booked whole"):
            async with conn.transaction():
                await complete_group(conn, [DoneWork(run, {}, 30, SHARE)])
        await transaction.rollback()
    assert (await web.job(job))["state"] == "executing"
    assert await ended(web, [DoneWork(run, {}, 30, SHARE)]) == [True]
    web.service.release.set()


async def test_work_that_is_done_halves_the_failures_of_its_buyers(web: Web) -> None:
    """Each by itself, as they are counted under a lock."""
    works = [DoneWork(run, {}, 1, SHARE) for _, run in await running(web, 2)]
    await web.gateway.pool.execute(
        "insert into work_failures (kind, subject, failures) values ('address', '127.0.0.1/32', 4)"
    )
    assert await ended(web, works) == [False, False]
    for work in works:
        assert await finish.complete(web.gateway.pool, work.run, {}, 1, SHARE)
    assert await web.gateway.pool.fetchval("select failures from work_failures") == 1
    web.service.release.set()


async def test_what_an_identity_bought_does_not_go_with_others(web: Web) -> None:
    ((_, run),) = await running(web, 1)
    with pytest.raises(ValueError, match="identity"):
        await ended(web, [DoneWork(replace(run, goes_with_others=False), {}, 1, SHARE)])
    web.service.release.set()
