"""PgQueuer as we use it: no task vanishes, whatever its handler does and whoever dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.domain.models import Job as Task
from pgqueuer.domain.models import TracebackRecord
from pgqueuer.domain.types import QueueEntrypoint, QueueManagerId
from pgqueuer.ports.repository import EntrypointExecutionParameter

from gateway.execution.driver import PatientDriver
from gateway.execution.queue import ENTRYPOINT, HandBack, OwnRows, enqueue, run_queue
from gateway.jobs.decisions import Stage
from ledger import sql
from ledger.database import Pool, open_pool
from tests.waiting import PATIENCE_S

LEASE_S = PATIENCE_S * 4
"""Heartbeats may take a quarter of it."""


async def work_until(
    pool: Pool, handle: Callable[[str], Awaitable[None]], stop: asyncio.Event, heartbeat_timeout_s: float = 6
) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await run_queue(
            pool, {Stage.WORK: handle}, concurrent=20, heartbeat_timeout_s=heartbeat_timeout_s, stopping=stop
        )


async def put(pool: Pool, job_id: str) -> None:
    async with pool.acquire() as conn:
        await enqueue(conn, job_id)


async def status(pool: Pool) -> list[str]:
    return [row["status"] for row in await pool.fetch("select status from pgqueuer order by id")]


async def test_a_handler_that_raises_keeps_its_row(pool: Pool) -> None:
    """PgQueuer 1.6 deletes it by default."""
    await put(pool, "a")
    stop = asyncio.Event()

    async def raising(job_id: str) -> None:
        stop.set()
        raise RuntimeError(job_id)

    await work_until(pool, raising, stop)
    assert await status(pool) == ["failed"]


async def test_a_held_row_does_not_stand_in_the_way_of_a_new_task(pool: Pool) -> None:
    await test_a_handler_that_raises_keeps_its_row(pool)
    await put(pool, "a")
    assert await status(pool) == ["failed", "queued"]


async def test_one_live_task_per_job(pool: Pool) -> None:
    await asyncio.gather(*(put(pool, "a") for _ in range(10)))
    assert await status(pool) == ["queued"]


async def test_enqueued_with_its_transaction_or_not_at_all(pool: Pool) -> None:
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await enqueue(conn, "a")
        await transaction.rollback()
    assert await status(pool) == []


async def test_a_task_handed_back_is_queued_again(pool: Pool) -> None:
    await put(pool, "a")
    stop = asyncio.Event()

    async def stopping(job_id: str) -> None:
        stop.set()
        raise HandBack

    await work_until(pool, stopping, stop)
    assert await status(pool) == ["queued"]


async def test_a_task_of_a_dead_process_is_taken_up(pool: Pool) -> None:
    await put(pool, "a")
    await pool.execute(
        "update pgqueuer set status = 'picked', queue_manager_id = gen_random_uuid(),"
        " heartbeat = now() - interval '7 s'"
    )
    stop, seen = asyncio.Event(), []

    async def handle(job_id: str) -> None:
        seen.append(job_id)
        stop.set()

    await work_until(pool, handle, stop)
    assert seen == ["a"]
    assert await status(pool) == []


async def take_over(pool: Pool) -> tuple[OwnRows, Task]:
    """What another process does with the one row there is, once its heartbeats are late."""
    other = OwnRows(PatientDriver(pool), LEASE_S)
    return other, await take(other)


async def take(queries: Queries) -> Task:
    """The one row there is, as if its heartbeats were late."""
    (task,) = await queries.dequeue(
        1,
        {QueueEntrypoint(ENTRYPOINT): EntrypointExecutionParameter(concurrency_limit=0)},
        queue_manager_id=QueueManagerId(uuid4()),
        global_concurrency_limit=None,
        heartbeat_timeout=timedelta(0),
    )
    return task


@pytest.mark.parametrize("end", [None, RuntimeError("it fell"), HandBack()])
async def test_a_late_end_leaves_the_row_to_who_took_it_over(pool: Pool, end: Exception | None) -> None:
    """Deleted or queued again, a third run would begin beside the second, whose result would then be late."""
    await put(pool, "a")
    stop, taken = asyncio.Event(), []

    async def late(job_id: str) -> None:
        taken.append(await take_over(pool))
        stop.set()
        if end:
            raise end

    await work_until(pool, late, stop)
    ((other, task),) = taken
    (row,) = await pool.fetch("select * from pgqueuer")
    assert (row["id"], row["status"], row["attempts"]) == (task.id, "picked", 0)
    assert row["queue_manager_id"] == task.queue_manager_id
    assert await pool.fetchval("select count(*) from pgqueuer_log where status in ('successful', 'failed')") == 0

    await other.log_jobs([(task, "successful", None)])
    assert await status(pool) == []


async def test_a_late_run_does_not_keep_the_row_of_another_alive(pool: Pool) -> None:
    await put(pool, "a")
    driver = PatientDriver(pool)
    first, other = OwnRows(driver, LEASE_S), OwnRows(driver, LEASE_S)
    await take(first)
    assert await beats(first, pool)
    await take(other)
    assert not await beats(first, pool)
    assert await beats(other, pool)
    await driver.close()


async def beats(queries: OwnRows, pool: Pool) -> bool:
    """Whether the one row's lease is longer than before."""
    before = await pool.fetchrow("select id, heartbeat from pgqueuer")
    assert before is not None
    await queries.update_heartbeat([before["id"]])
    return bool(await pool.fetchval("select heartbeat > $1 from pgqueuer", before["heartbeat"]))


@asynccontextmanager
async def with_two_connections(dsn: str, pool: Pool) -> AsyncIterator[tuple[Pool, OwnRows]]:
    """A queue that has taken the one row there is; both connections are given back when it has ended."""
    await put(pool, "a")
    async with asyncio.timeout(PATIENCE_S), open_pool(dsn, min_size=1, max_size=2) as small:
        driver = PatientDriver(small)
        queries = OwnRows(driver, LEASE_S)
        async with driver:
            await take(queries)
            yield small, queries
        await driver.close()
        async with small.acquire(), small.acquire():
            pass


async def test_heartbeats_do_not_wait_for_the_pool(dsn: str, pool: Pool) -> None:
    """All its other connections are busy, and others wait for one."""
    async with with_two_connections(dsn, pool) as (small, queries):
        async with small.acquire():
            waiting = asyncio.create_task(small.fetchval("select 1"))
            await asyncio.sleep(0)
            assert await beats(queries, pool)
            assert not waiting.done()
        await waiting


async def test_heartbeats_get_a_new_connection_for_one_that_broke(dsn: str, pool: Pool) -> None:
    async with with_two_connections(dsn, pool) as (_, queries):
        for _ in range(3):
            await pool.execute(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
            assert await beats(queries, pool)


async def test_heartbeats_that_take_too_long_are_given_up_and_sent_again(pool: Pool) -> None:
    await put(pool, "a")
    driver = PatientDriver(pool)
    queries = OwnRows(driver, 0.4)
    task = await take(queries)
    async with asyncio.timeout(PATIENCE_S):
        async with pool.acquire() as conn, conn.transaction():
            await conn.execute("select from pgqueuer for update")
            with pytest.raises(TimeoutError):
                await queries.update_heartbeat([task.id])
        queries._beat_timeout_s = PATIENCE_S
        assert await beats(queries, pool)
    await driver.close()


async def test_ends_are_written_as_the_library_writes_them(pool: Pool) -> None:
    """Row for row in the queue and its log: those that are held, deleted and queued again."""
    driver = PatientDriver(pool)
    for queries in (Queries(driver), OwnRows(driver, LEASE_S)):
        tasks = []
        for n in range(4):
            await put(pool, f"{type(queries).__name__}{n}")
            tasks.append(await take(queries))
            await pool.execute("update pgqueuer set heartbeat = 'infinity' where id = $1", tasks[-1].id)
        trace = TracebackRecord.from_exception(RuntimeError("it fell"), tasks[1].id)
        await queries.log_jobs(
            [(tasks[0], "successful", None), (tasks[1], "failed", trace), (tasks[2], "canceled", None)]
        )
        await queries.retry_job(tasks[3], timedelta(hours=1), trace)
    rows = await pool.fetch(
        "select status, priority, entrypoint, attempts, queue_manager_id, slot, execute_after > now() as later"
        " from pgqueuer order by id"
    )
    assert [row["status"] for row in rows] == ["failed", "queued"] * 2
    assert rows[:2] == rows[2:]
    logged = await pool.fetch(
        "select status, priority, entrypoint, traceback::jsonb - array['timestamp', 'job_id'] as trace, aggregated,"
        " dense_rank() over (order by job_id) % 4 as place from pgqueuer_log order by job_id, id"
    )
    assert len(logged) == 24
    assert logged[:12] == logged[12:]


async def test_the_queue_lives_through_lost_connections(pool: Pool, dsn: str) -> None:
    """All connections are cut while a task runs; the task ends, and a later one is heard of."""
    stop, cut, ended = asyncio.Event(), asyncio.Event(), []

    async def handle(job_id: str) -> None:
        if job_id == "first":
            await pool.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
            cut.set()
        ended.append(job_id)
        if job_id == "second":
            stop.set()

    async def second() -> None:
        await cut.wait()
        conn = await asyncpg.connect(dsn)
        await enqueue(conn, "second")
        await conn.close()

    await put(pool, "first")
    adding = asyncio.create_task(second())
    await work_until(pool, handle, stop)
    await adding
    assert ended == ["first", "second"]
    assert await status(pool) == []


async def test_a_task_of_our_own_statement_is_one_of_the_library(pool: Pool) -> None:
    """Row for row in the queue and its log; a task that is there already is not made again."""
    statement = "with begun as (select unnest($1::text[]) as id), " + sql.load("gateway.execution").with_tasks
    await put(pool, "a" * 22)
    await pool.execute(f"{statement} select from begun", ["a" * 22, "b" * 22])
    rows = await pool.fetch("select * from pgqueuer order by id")
    times = {"created", "updated", "heartbeat", "execute_after"}
    named = [{k: v for k, v in row.items() if k not in times | {"id", "payload", "dedupe_key"}} for row in rows]
    assert named[0] == named[1]
    assert (
        [row["payload"].decode() for row in rows]
        == [row["dedupe_key"] for row in rows]
        == [
            f"job:{'a' * 22}",
            f"job:{'b' * 22}",
        ]
    )
    assert await pool.fetchval("select bool_and(execute_after = created) from pgqueuer")
    logged = await pool.fetch("select job_id, status, priority, entrypoint, aggregated from pgqueuer_log order by id")
    assert [row["job_id"] for row in logged] == [row["id"] for row in rows]
    assert tuple(logged[0])[1:] == tuple(logged[1])[1:]


async def test_one_more_than_a_batch_and_one_more_later(pool: Pool) -> None:
    """The queue looks less often than its library would; nothing is left lying for that."""
    stop, seen = asyncio.Event(), []

    async def handle(job_id: str) -> None:
        seen.append(job_id)
        if len(seen) == 1:
            await put(pool, "later")
        if len(seen) == 32:
            stop.set()

    for n in range(31):
        await put(pool, f"{n}")
    await work_until(pool, handle, stop)
    assert sorted(seen) == sorted([*(f"{n}" for n in range(31)), "later"])
    assert await status(pool) == []
