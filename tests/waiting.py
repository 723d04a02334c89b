"""Until somebody waits for a lock in this test's database."""

from __future__ import annotations

import asyncio

from ledger.database import Pool


async def until_somebody_waits(pool: Pool, count: int = 1) -> None:
    async with asyncio.timeout(15):
        while True:
            waiting = await pool.fetchval(
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
            )
            if waiting >= count:
                return
            await asyncio.sleep(0.02)
