"""Invariants as SQL that finds what breaks them, and a self-test that breaks each one on purpose.

A file of invariants has, for each name, one block `check_<name>` that selects `(subject, detail)` of every
violation, and one or more blocks `break_<name>…` that break it. The self-test runs each break in a
transaction that is rolled back, and fails when the check finds no more than before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ledger import sql
from ledger.database import Connection


@dataclass(frozen=True, slots=True)
class Invariant:
    name: str
    says: str
    check: str
    breaks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Violation:
    invariant: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class Unnoticed:
    """A break that the check did not find."""

    invariant: str
    break_sql: str


def load_invariants(package: str, file: str = "audit.sql") -> tuple[Invariant, ...]:
    blocks = sql.load(package, file).blocks
    invariants = []
    for block, text in blocks.items():
        if not block.startswith("check_"):
            continue
        name = block.removeprefix("check_")
        breaks = tuple(t for b, t in blocks.items() if re.fullmatch(rf"break_{name}(_\d+)?", b))
        if not breaks:
            raise ValueError(f"invariant {name!r} has no block that breaks it")
        comment = [line[2:].strip() for line in text.splitlines() if line.startswith("--")]
        invariants.append(Invariant(name, " ".join(comment), text, breaks))
    return tuple(invariants)


async def find_violations(conn: Connection, invariants: Sequence[Invariant]) -> list[Violation]:
    """Check all on one snapshot of the database, so that running traffic raises no false alarm."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        return [v for invariant in invariants for v in await _check(conn, invariant)]


async def self_test(conn: Connection, invariants: Iterable[Invariant]) -> list[Unnoticed]:
    """Break each invariant in a transaction of its own and roll it back; answers the breaks that went unnoticed."""
    unnoticed = []
    for invariant in invariants:
        for break_sql in invariant.breaks:
            transaction = conn.transaction()
            await transaction.start()
            try:
                before = set(await _check(conn, invariant))
                await conn.execute(break_sql)
                if not set(await _check(conn, invariant)) - before:
                    unnoticed.append(Unnoticed(invariant.name, break_sql))
            finally:
                await transaction.rollback()
    return unnoticed


async def _check(conn: Connection, invariant: Invariant) -> list[Violation]:
    rows = await conn.fetch(invariant.check)
    return [Violation(invariant.name, row["subject"], row["detail"]) for row in rows]
