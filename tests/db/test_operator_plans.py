"""The operator's lists read their newest rows by an index, from where the page before ended, whatever is asked for."""

from __future__ import annotations

import pytest

from ledger import sql
from ledger.database import Pool

PAGES = sql.load("gateway.pages.operator", "operator.sql")
SHARED = sql.load("gateway.operator", "lists.sql")
WEBHOOKS = sql.load("gateway.webhooks")
LISTS = [
    *((table, getattr(SHARED, f"list_{table}"), 4) for table in ("jobs", "sessions", "refunds")),
    ("invoices", PAGES.list_invoices, 4),
    ("webhook_deliveries", PAGES.list_deliveries, 4),
    ("webhook_deliveries", WEBHOOKS.list_deliveries, 2),
]


@pytest.mark.parametrize(("table", "statement", "values"), LISTS)
async def test_a_list_begins_where_the_page_before_ended(pool: Pool, table: str, statement: str, values: int) -> None:
    plan = await plan_of(pool, statement, values)
    step = plan.partition(f"Index Scan Backward using {table}_newest on {table}")[2]
    assert step, plan
    condition = step.partition("->")[0]
    assert "Index Cond: (created_at <= " in condition, plan


@pytest.mark.parametrize(
    "statement", [SHARED.list_jobs, SHARED.list_sessions, SHARED.list_refunds, PAGES.list_invoices]
)
async def test_what_is_searched_for_is_not_looked_for_in_every_row(pool: Pool, statement: str) -> None:
    """The branch without a search is skipped as a whole when there is one, and the other way round."""
    plan = await plan_of(pool, statement, 4)
    assert "One-Time Filter: ($4 IS NULL)" in plan, plan
    assert "One-Time Filter: ($4 IS NOT NULL)" in plan, plan


@pytest.mark.parametrize(
    ("index", "statement"),
    [
        ("transfers_pkey on transfers", SHARED.list_transfers),
        ("grants_pkey on grants", SHARED.list_grants),
        ("operator_actions_pkey on operator_actions", PAGES.list_actions),
    ],
)
async def test_numbered_rows_begin_where_the_page_before_ended(pool: Pool, index: str, statement: str) -> None:
    plan = await plan_of(pool, statement, 4)
    step = plan.partition(f"Index Scan Backward using {index}")[2].partition("->")[0]
    assert "Index Cond: (id < COALESCE(" in step, plan


async def test_lines_of_the_book_are_searched_for_by_the_indexes_of_accounts_and_causes(pool: Pool) -> None:
    plan = await plan_of(pool, SHARED.list_transfers, 4)
    for index in ("transfers_debit", "transfers_credit", "one_transfer_per_cause"):
        assert f"Index Scan using {index} on transfers" in plan, plan


async def test_events_are_read_from_the_newest_ends(pool: Pool) -> None:
    plan = await plan_of(pool, PAGES.events, 1)
    for source in ("transfers_pkey on transfers", "jobs_newest on jobs", "sessions_newest on sessions"):
        assert f"Index Scan Backward using {source}" in plan, plan


async def plan_of(pool: Pool, statement: str, values: int) -> str:
    """As our connections plan it: once, for values that nobody knows yet. An empty table is not worth its index."""
    async with pool.acquire() as conn, conn.transaction():
        for other_way in ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin"):
            await conn.execute(f"set local enable_{other_way} = off")
        await conn.execute(f"prepare asked as {statement}")
        lines = await conn.fetch(f"explain (costs off) execute asked ({', '.join(['null'] * values)})")
        await conn.execute("deallocate asked")
    return "\n".join(line[0] for line in lines)
