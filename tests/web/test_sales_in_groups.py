"""Sales in groups: one bad one spoils no other, and a COMMIT of unknown outcome makes no second job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Interface

import asyncpg
import pytest

from gateway.identity import record_event
from gateway.identity.caller import Caller
from gateway.ids import new_id
from gateway.jobs import create
from gateway.jobs.create import Also, Created, Creation, InvoiceLimits, NewJob, Sale, create_group, sell_plain
from ledger.database import Connection, Pool
from ledger.free_tier import Rules
from ledger.groups import Groups
from tests.nostr import Signer, header
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web


def creation(job_id: str, *, estimate_sats: int = 10) -> Creation:
    job = NewJob(job_id, "token", "echo", {}, estimate_sats, IPv4Interface("127.0.0.1/32"), None, "memo")
    return Creation(job, InvoiceLimits(600, 1000))


async def apply(conn: Connection, creations: Sequence[Creation]) -> list[Sale]:
    return await create_group(conn, creations, Rules())


async def test_one_bad_sale_spoils_no_other(pool: Pool) -> None:
    groups = Groups(pool, apply)
    good = [creation(new_id()) for _ in range(5)]
    bad = creation(new_id(), estimate_sats=0)  # refused by the table's CHECK
    results = await asyncio.gather(*(groups.submit(c) for c in [*good, bad]), return_exceptions=True)
    assert all(isinstance(result, Created) and result.planned for result in results[:5])
    assert isinstance(results[5], Exception)
    assert await pool.fetchval("select count(*) from jobs") == 5


async def test_what_was_committed_without_an_answer_is_found_again(pool: Pool) -> None:
    """The first try of the group commits, then its connection breaks: the retry finds every job."""
    broken = 0

    class Breaking(Groups[Creation, Sale]):
        async def _once(self, asks: Sequence[Creation]) -> list[Sale]:
            nonlocal broken
            answers = await super()._once(asks)
            if broken < 1:
                broken += 1
                raise ConnectionError("the answer to COMMIT was lost")
            return answers

    groups = Breaking(pool, apply)
    results = await asyncio.gather(*(groups.submit(creation(new_id())) for _ in range(4)))
    assert all(isinstance(result, Created) and result.stood for result in results)
    assert await pool.fetchval("select count(*) from jobs") == 4
    assert await pool.fetchval("select count(*) from invoices") == 4


async def test_a_sale_whose_commit_is_unknown_still_answers_its_invoice(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = web.gateway.plain_sales._apply_to
    lost = 0

    async def losing(asks: Sequence[Creation]) -> list[Created | None]:
        nonlocal lost
        answers = await once(asks)
        lost += 1
        if lost == 1:
            raise ConnectionError("the answer to COMMIT was lost")
        return answers

    monkeypatch.setattr(web.gateway.plain_sales, "_apply_to", losing)
    job = await web.buy("echo", {"cost": 5})
    web.pay(job)
    await web.until(job, state="complete")
    assert lost == 2, "it was tried again, by itself"
    assert await web.gateway.pool.fetchval("select count(*) from jobs") == 1


def bought_with(event_id: str, job_id: str) -> Creation:
    async def run(conn: Connection) -> None:
        await record_event(conn, Caller("ab" * 32, event_id))

    made = creation(job_id)
    return Creation(made.job, made.limits, Also(event_id, run))


async def try_alone(groups: Groups[Creation, Sale], made: Creation) -> Sale:
    """The second half of a group's failure: its ask is tried by itself."""
    answer: asyncio.Future[Sale] = asyncio.get_running_loop().create_future()
    await groups._alone(made, answer)
    return await answer


async def until_waiting(pool: Pool, count: int = 1) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await pool.fetchval("select count(*) from pg_locks where not granted") < count:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("event_id", ["", "cd" * 32])
async def test_a_retry_beside_its_own_commit_finds_the_sale(pool: Pool, event_id: str) -> None:
    """The connection broke while the server was still committing: the retry waits for it and answers the sale."""
    job_id = new_id()
    made = bought_with(event_id, job_id) if event_id else creation(job_id)
    groups = Groups(pool, apply)
    async with pool.acquire() as conn:
        first = conn.transaction()
        await first.start()
        await apply(conn, [made])
        retry = asyncio.create_task(try_alone(groups, made))
        await until_waiting(pool)
        await first.commit()
    result = await retry
    assert isinstance(result, Created)
    assert result.stood


async def test_two_groups_with_the_same_events_do_not_deadlock(pool: Pool) -> None:
    """Events are taken in one order, whatever the order of the sales: of two equal ones one is refused."""
    events = ["1" * 64, "2" * 64]
    started = asyncio.Barrier(2)

    def slowly(event_id: str) -> Creation:
        async def run(conn: Connection) -> None:
            await record_event(conn, Caller("ab" * 32, event_id))
            await asyncio.sleep(0.5)

        made = creation(new_id())
        return Creation(made.job, made.limits, Also(event_id, run))

    async def group(event_ids: Sequence[str]) -> list[Sale]:
        async with pool.acquire() as conn, conn.transaction():
            await started.wait()
            return await apply(conn, [slowly(event_id) for event_id in event_ids])

    answers = await asyncio.gather(group(events), group(events[::-1]))
    assert sum(isinstance(answer, Created) for pair in answers for answer in pair) == 2


async def test_a_sale_for_which_nobody_waits_is_not_made(pool: Pool) -> None:
    groups = Groups(pool, apply)
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("lock table jobs in access exclusive mode")
        first = asyncio.create_task(groups.submit(creation(new_id())))
        await until_waiting(pool)
        gone = asyncio.create_task(groups.submit(creation(new_id())))
        await asyncio.sleep(0)
        gone.cancel()
    assert isinstance(await first, Created)
    assert isinstance(await groups.submit(creation(new_id())), Created)
    assert await pool.fetchval("select count(*) from jobs") == 2


async def test_a_group_that_is_stopped_leaves_nobody_waiting(pool: Pool) -> None:
    groups = Groups(pool, apply)
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("lock table jobs in access exclusive mode")
        first = asyncio.create_task(groups.submit(creation(new_id())))
        await until_waiting(pool)
        second = asyncio.create_task(groups.submit(creation(new_id())))
        await asyncio.sleep(0)
        assert groups._leader is not None
        groups._leader.cancel()
        _, waiting = await asyncio.wait({first, second}, timeout=5)
    assert not waiting
    assert isinstance(await groups.submit(creation(new_id())), Created)
    assert await pool.fetchval("select count(*) from jobs") == 1


async def test_an_event_that_resumes_a_sale_is_used_up(web: Web) -> None:
    body, url = b'{"work":"echo","input":{}}', f"{web.url}/api/jobs"

    async def post(content: str, key: str | None) -> int:
        headers = {**header(Signer(12).call("POST", url, body, content=content, created_at=made_at))}
        headers |= {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        async with web.http.post(url, data=body, headers=headers) as response:
            return response.status

    made_at, key = int(time.time()), "resumed-by-another-event"
    web.node.lose_next_answer()
    assert await post("first", key) == 503
    web.node.lose_next_answer()
    assert await post("first", key) == 503  # the very same request: resumed, not taken for a replay
    assert await post("second", key) == 201
    assert await post("first", None) == 401
    assert await post("second", None) == 401
    assert await web.gateway.pool.fetchval("select count(*) from jobs") == 1


async def sold(pool: Pool, *creations: Creation) -> list[bool]:
    async with pool.acquire() as conn:
        return [sale is not None for sale in await sell_plain(conn, creations)]


async def test_plain_sales_leave_out_what_needs_a_closer_look(pool: Pool) -> None:
    """As many as their address has room for, in the order of the asks; what stands already is not sold again."""
    first, *more = (creation(new_id()) for _ in range(4))
    assert await sold(pool, first) == [True]
    assert await sold(pool, first, more[0]) == [False, True]
    room_for_three = [replace(c, limits=InvoiceLimits(600, 3)) for c in more[1:]]
    assert await sold(pool, *room_for_three) == [True, False]
    elsewhere = replace(more[2].job, client_address=IPv4Interface("127.0.0.2/32"))
    assert await sold(pool, replace(room_for_three[1], job=elsewhere)) == [True]
    assert await pool.fetchval("select count(*) from jobs") == await pool.fetchval("select count(*) from invoices") == 4


async def test_whose_work_failed_lately_is_looked_at_closely(pool: Pool) -> None:
    await pool.execute("insert into work_failures (kind, subject, failures) values ('address', '127.0.0.1/32', 1)")
    assert await sold(pool, creation(new_id())) == [False]
    await pool.execute("update work_failures set last_failed_at = now() - interval '25 hours'")
    assert await sold(pool, creation(new_id())) == [True]


async def test_what_a_gate_decides_on_is_not_plain(pool: Pool) -> None:
    bought = creation(new_id())
    with pytest.raises(ValueError, match="gate"):
        await sold(pool, replace(bought, job=replace(bought.job, pubkey="a" * 64)))


async def test_a_sale_without_its_invoice_is_none(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = create._columns
    monkeypatch.setattr(create, "_columns", lambda _: columns([]))
    with pytest.raises(asyncpg.CheckViolationError, match="has its invoice"):
        await sold(pool, creation(new_id()))
    assert await pool.fetchval("select count(*) from jobs") == 0
