"""A sign of life of a process that serves no port: a file, touched while database and node answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ledger.database import DATABASE_AWAY, Pool
from lightning.node import InvoiceReader
from lightning.types import NodeUnavailable

BEAT_EVERY_S = 2.0
ANSWER_WITHIN_S = 5.0


async def beat(pool: Pool, node: InvoiceReader, file: Path | None) -> None:
    """Until cancelled; ends at once without a file. `gateway.healthy` looks at the file's age."""
    while file is not None:
        if await usable(pool, node):
            file.touch()
        await asyncio.sleep(BEAT_EVERY_S)


async def usable(pool: Pool, node: InvoiceReader) -> bool:
    """Whether the database answers, and the node, synced to its chain."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await pool.fetchval("select 1")
            return (await node.get_info()).synced_to_chain
    except (NodeUnavailable, *DATABASE_AWAY):
        return False
