"""Every named SQL block is one that PostgreSQL understands."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

import gateway
import ledger
from ledger.database import Pool
from ledger.sql import PART, load, parse, with_parts

ROOT = Path(gateway.__file__).parents[1]
FILES = sorted(
    path
    for package in (gateway, ledger)
    for path in Path(package.__file__).parent.rglob("*.sql")
    if path.parent.name != "migrations"
)
BLOCKS = {
    f"{path.relative_to(ROOT)}:{name}": with_parts(text)
    for path in FILES
    for name, text in parse(path.read_text()).items()
    if not name.startswith(("break_", PART))
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


def test_a_part_stands_in_each_statement_that_takes_it_in() -> None:
    book = load("ledger", "book.sql")
    assert book.with_posting in book.post
    with pytest.raises(KeyError):
        with_parts("-- include: ledger book.sql with_nothing")
