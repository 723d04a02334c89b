"""Every named SQL block is one that PostgreSQL understands."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

import gateway
import ledger
from ledger.database import Pool
from ledger.sql import parse

ROOT = Path(gateway.__file__).parents[1]
FILES = sorted(
    path
    for package in (gateway, ledger)
    for path in Path(package.__file__).parent.rglob("*.sql")
    if path.parent.name != "migrations"
)
BLOCKS = {
    f"{path.relative_to(ROOT)}:{name}": text
    for path in FILES
    for name, text in parse(path.read_text()).items()
    if not name.startswith("break_")
}


async def test_every_block_prepares(pool: Pool) -> None:
    refused = {}
    async with pool.acquire() as conn:
        for name, text in BLOCKS.items():
            try:
                await conn.prepare(text)
            except asyncpg.PostgresError as error:
                refused[name] = str(error)
    assert refused == {}
    assert len(BLOCKS) > 60


def test_all_files_were_found() -> None:
    assert {path.name for path in FILES} >= {"book.sql", "audit.sql", "queries.sql", "idempotency.sql"}


def test_a_name_stands_once() -> None:
    with pytest.raises(ValueError, match="stands twice"):
        parse("-- name: a\nselect 1\n-- name: a\nselect 2")
