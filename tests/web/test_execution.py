"""Work as durable tasks: run once, never lost, late results discarded, a slow one in nobody's way."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway.execution.call import MAX_COST_SATS
from gateway.execution.orphans import requeue_orphans
from gateway.execution.queue import enqueue
from gateway.execution.run import MAX_LOST_RUNS
from gateway.jobs import finish
from gateway.work.worker import Done, Worker, WorkFailed, WorkOrder
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web


async def executing(web: Web) -> dict[str, object]:
    """A job whose worker waits to be released."""
    job = await web.paid({"cost": 5, "hold": True})
    async with asyncio.timeout(PATIENCE_S):
        await web.service.arrived.wait()
    return job


async def test_sixteen_at_once_and_a_slow_one_blocks_none(web: Web) -> None:
    slow = [await web.paid({"hold": True}) for _ in range(16)]
    async with asyncio.timeout(PATIENCE_S):
        while len(web.service.orders) < 16:
            await asyncio.sleep(0.02)
    quick = await web.paid({"cost": 1})
    await web.until(quick, state="complete")
    assert {(await web.job(job))["state"] for job in slow} == {"executing"}
    web.service.release.set()
    for job in slow:
        await web.until(job, state="complete")


async def test_a_late_result_is_discarded(web: Web) -> None:
    job = await executing(web)
    stale = await finish.begin_run(web.gateway.pool, str(job["id"]))
    current = await finish.begin_run(web.gateway.pool, str(job["id"]))
    assert stale is not None
    assert current is not None
    share = web.gateway.catalogue.pool.share_of_revenue
    assert not await finish.complete(web.gateway.pool, stale, {"late": True}, 5, share)
    assert not await finish.fail(web.gateway.pool, stale, "late")
    assert await finish.complete(web.gateway.pool, current, {"right": True}, 7, share)
    assert not await finish.complete(web.gateway.pool, current, {"twice": True}, 7, share)
    done = await web.until(job, state="complete", userChargeSats=7)
    assert done["result"] == {"right": True}


async def test_a_job_that_ended_is_not_run_again(web: Web) -> None:
    job = await web.paid({"cost": 5})
    await web.until(job, state="complete")
    async with web.gateway.pool.acquire() as conn:
        await enqueue(conn, job["id"])
    async with asyncio.timeout(PATIENCE_S):
        while await web.gateway.pool.fetchval("select count(*) from pgqueuer"):
            await asyncio.sleep(0.02)
    assert len(web.service.orders) == 1


async def test_a_worker_that_falls_fails_its_job_and_owes_all_back(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    class Falling:
        async def run(self, order: WorkOrder) -> Done | WorkFailed:
            raise RuntimeError("a fault with a secret in it")

    monkeypatch.setitem(cast(dict[str, Worker], web.gateway.workers), "echo", Falling())
    job = await web.paid({})
    failed = await web.until(job, state="failed", refundAmountSats=100)
    assert "secret" not in failed["failureReason"]


class Answers:
    """A worker of one answer, and how often it was asked."""

    def __init__(self, outcome: Done | WorkFailed) -> None:
        self.outcome, self.calls = outcome, 0

    async def run(self, order: WorkOrder) -> Done | WorkFailed:
        self.calls += 1
        return self.outcome


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Done({"text": "a\0b"}, 5), "The result could not be kept."),
        (Done({"text": "a"}, MAX_COST_SATS + 1), "The worker named a cost that can not be."),
    ],
)
async def test_what_can_not_be_booked_ends_the_job_at_once(
    web: Web, monkeypatch: pytest.MonkeyPatch, outcome: Done, why: str
) -> None:
    worker = Answers(outcome)
    monkeypatch.setitem(cast(dict[str, Worker], web.gateway.workers), "echo", worker)
    failed = await web.until(await web.paid({}), state="failed", refundAmountSats=100)
    assert (failed["failureReason"], worker.calls) == (why, 1)


async def test_an_executing_job_without_a_task_is_found(web: Web) -> None:
    job = await executing(web)
    pool = web.gateway.pool
    assert await requeue_orphans(pool, web.gateway.metrics) == []
    await pool.execute("delete from pgqueuer")
    await pool.execute("update jobs set updated_at = now() - interval '1 minute'")
    await requeue_orphans(pool, web.gateway.metrics)  # or the gateway's own sweep was quicker
    async with asyncio.timeout(PATIENCE_S):
        while await pool.fetchval("select count(*) from pgqueuer") != 1:
            await asyncio.sleep(0.02)
    assert await requeue_orphans(pool, web.gateway.metrics) == []
    assert web.gateway.metrics.orphans._value.get() == 1
    web.service.release.set()
    await web.until(job, state="complete")


async def test_a_job_lost_too_often_is_given_up_and_refunded(web: Web) -> None:
    job = await executing(web)
    pool = web.gateway.pool
    for _ in range(MAX_LOST_RUNS):
        await finish.begin_run(pool, str(job["id"]))
    await pool.execute("delete from pgqueuer")
    async with pool.acquire() as conn:
        await enqueue(conn, str(job["id"]))
    failed = await web.until(job, state="failed", refundAmountSats=100)
    assert "lost" in failed["failureReason"]


async def test_handed_back_runs_are_not_lost_runs(web: Web) -> None:
    job = await executing(web)
    pool = web.gateway.pool
    for _ in range(MAX_LOST_RUNS + 2):
        run = await finish.begin_run(pool, str(job["id"]))
        assert run is not None
        await finish.hand_back(pool, run)
    run = await finish.begin_run(pool, str(job["id"]))
    assert run is not None
    assert run.lost_runs == 1
    assert await finish.fail(pool, run, "the test is over")
