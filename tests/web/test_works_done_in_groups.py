"""Works that end in groups: each ends once, and a late result changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from gateway.jobs import finish
from gateway.jobs.finish import Run
from gateway.jobs.finish_group import DoneWork, complete_group
from ledger import sql
from tests.web.conftest import Web

SHARE = Decimal("0.05")


async def running(web: Web, count: int) -> list[tuple[dict[str, Any], Run]]:
    """Paid jobs whose worker does not answer, each with a run of it that is the current one."""
    jobs = [await web.paid({"hold": True}) for _ in range(count)]
    async with asyncio.timeout(15):
        while len(web.service.orders) < count:
            await asyncio.sleep(0.02)
    runs = [await finish.begin_run(web.gateway.pool, str(job["id"])) for job in jobs]
    return [(job, run) for job, run in zip(jobs, runs, strict=True) if run is not None]


async def ended(web: Web, works: Sequence[DoneWork]) -> list[bool]:
    """All in one transaction."""
    async with web.gateway.pool.acquire() as conn, conn.transaction():
        return await complete_group(conn, works)


async def test_a_group_ends_each_once_and_discards_what_is_late(web: Web) -> None:
    (first, of_first), (second, of_second) = await running(web, 2)
    works = [
        DoneWork(replace(of_first, attempt=of_first.attempt - 1), {"late": True}, 5, SHARE),
        DoneWork(of_first, {"right": True}, 40, SHARE),
        DoneWork(of_first, {"twice": True}, 40, SHARE),
        DoneWork(of_second, {"over": True}, 130, SHARE),
        DoneWork(replace(of_second, job_id="nobody's"), {}, 1, SHARE),
    ]
    assert await ended(web, works) == [False, True, False, True, False]
    assert await ended(web, works) == [False] * 5
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


async def test_the_statement_itself_owes_nothing_for_a_run_that_is_over(web: Web) -> None:
    """The locks keep such a run away from it; it does not depend on them."""
    ((job, run),) = await running(web, 1)
    late = ([run.job_id], [run.attempt - 1], ["{}"], [30], [30], ["a-refund"], [f"rest:{run.job_id}"], [70])
    assert await web.gateway.pool.fetchval(sql.load("gateway.jobs").complete_jobs, *late) == 0
    assert ((await web.job(job))["state"], (await web.job(job))["refundState"]) == ("executing", "none")
    web.service.release.set()
    await web.until(job, state="complete")


async def test_work_that_is_done_halves_the_failures_of_its_buyers(web: Web) -> None:
    works = [DoneWork(run, {}, 1, SHARE) for _, run in await running(web, 2)]
    await web.gateway.pool.execute(
        "insert into work_failures (kind, subject, failures) values ('address', '127.0.0.1/32', 4)"
    )
    assert await ended(web, works) == [True, True]
    assert await web.gateway.pool.fetchval("select failures from work_failures") == 1
    web.service.release.set()


async def test_what_an_identity_bought_does_not_go_with_others(web: Web) -> None:
    ((_, run),) = await running(web, 1)
    with pytest.raises(ValueError, match="identity"):
        await ended(web, [DoneWork(replace(run, goes_with_others=False), {}, 1, SHARE)])
    web.service.release.set()
