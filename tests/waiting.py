"""How long a test waits for what must come, and until somebody waits for a lock in its database."""

from __future__ import annotations

import asyncio

from ledger.database import Pool

PATIENCE_S = 60.0
"""Whatever is waited for comes at once on a machine that is idle; only a test that fails gets slower by it."""


async def until_somebody_waits(pool: Pool, count: int = 1) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            waiting = await pool.fetchval(
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
            )
            if waiting >= count:
                return
            await asyncio.sleep(0.02)
