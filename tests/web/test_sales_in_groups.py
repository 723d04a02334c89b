"""Sales in groups: one bad one spoils no other, and a COMMIT of unknown outcome makes no second job."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Interface

import pytest

from gateway.ids import new_id
from gateway.jobs.create import Created, Creation, InvoiceLimits, NewJob, Sale, create_group
from ledger.database import Connection, Pool
from ledger.free_tier import Rules
from ledger.groups import Groups
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
    once = web.gateway.sales._once
    lost = 0

    async def losing(asks: Sequence[Creation]) -> list[Sale]:
        nonlocal lost
        answers = await once(asks)
        lost += 1
        if lost == 1:
            raise ConnectionError("the answer to COMMIT was lost")
        return answers

    monkeypatch.setattr(web.gateway.sales, "_once", losing)
    job = await web.buy("echo", {"cost": 5})
    web.pay(job)
    await web.until(job, state="complete")
    assert await web.gateway.pool.fetchval("select count(*) from jobs") == 1
