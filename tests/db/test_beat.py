"""The sign of life of worker and watcher: only while database and node answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.beat import beat, usable
from ledger.database import Pool
from lightning.fake import FakeNode
from tests.waiting import PATIENCE_S


async def test_it_is_touched_while_both_answer(pool: Pool, tmp_path: Path) -> None:
    file = tmp_path / "alive"
    beating = asyncio.create_task(beat(pool, FakeNode(), file))
    async with asyncio.timeout(PATIENCE_S):
        while not file.exists():
            await asyncio.sleep(0.01)
    beating.cancel()
    await asyncio.wait({beating})


async def test_without_a_file_there_is_nothing_to_do(pool: Pool) -> None:
    await asyncio.wait_for(beat(pool, FakeNode(), None), 20)


async def test_it_is_not_usable_without_its_node_or_its_database(dsn: str, pool: Pool) -> None:
    node = FakeNode()
    assert await usable(pool, node)
    node.go_unavailable()
    assert not await usable(pool, node)
    node.come_back()
    node.synced_to_chain = False
    assert not await usable(pool, node)
    node.synced_to_chain = True
    await pool.close()
    assert not await usable(pool, node)
