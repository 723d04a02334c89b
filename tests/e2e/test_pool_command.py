"""`boltworks pool` as an operator types it: booked at once and once, refused without a trace in the book."""

from __future__ import annotations

import json
from pathlib import Path

import asyncpg
import pytest

from ledger.money import MAX_SATS
from tests.e2e.test_commands import boltworks

KEY = "a-key-of-twenty-characters"


async def actions(dsn: str) -> list[tuple[str, str, str, str]]:
    conn = await asyncpg.connect(dsn)
    rows = await conn.fetch("select who, action, said, outcome from operator_actions order by id")
    await conn.close()
    return [tuple(row) for row in rows]


async def test_what_is_given_is_booked_at_once_and_once(dsn: str, tmp_path: Path) -> None:
    env = {"BOLTWORKS_DATABASE_URL": dsn}
    shown = await boltworks(tmp_path, "pool", "show", "--json", env=env)
    assert (shown.code, json.loads(shown.out)) == (0, {"balanceSats": 0, "reservedSats": 0, "absorbedTodaySats": 0})
    first = await boltworks(tmp_path, "pool", "topup", "1500", "--key", KEY, "--json", env=env)
    assert (first.code, json.loads(first.out)["booked"], json.loads(first.out)["balanceSats"]) == (0, True, 1500)
    again = await boltworks(tmp_path, "pool", "topup", "1500", "--key", KEY, env=env)
    assert (again.code, "nothing was booked" in again.out) == (0, True)
    other = await boltworks(tmp_path, "pool", "topup", "1501", "--key", KEY, env=env)
    assert (other.code, other.out, "was used for another request" in other.err) == (1, "", True)
    plain = await boltworks(tmp_path, "pool", "topup", "1", env=env)
    assert "booked: 1 sat to the pool" in plain.out
    shown = await boltworks(tmp_path, "pool", "show", env=env)
    assert "1,501 sats" in shown.out
    assert await actions(dsn) == [
        ("command", "topup", "1500 sats", "done"),
        ("command", "topup", "1500 sats", "repeated"),
        ("command", "topup", "1501 sats", "refused"),
        ("command", "topup", "1 sats", "done"),
    ]


async def test_more_than_there_is_is_refused(dsn: str, tmp_path: Path) -> None:
    env = {"BOLTWORKS_DATABASE_URL": dsn}
    assert (await boltworks(tmp_path, "pool", "topup", str(MAX_SATS), env=env)).code == 0
    full = await boltworks(tmp_path, "pool", "topup", "1", "--json", env=env)
    assert (full.code, full.out) == (1, "")
    assert full.err.startswith("boltworks: The pool can not hold that much.")
    assert "Traceback" not in full.err


@pytest.mark.parametrize(
    "args", [("0",), ("-1",), ("1.5",), ("many",), (), (str(MAX_SATS + 1),), ("1", "--key", "short")], ids=repr
)
async def test_what_is_typed_wrongly_books_nothing(dsn: str, tmp_path: Path, args: tuple[str, ...]) -> None:
    typed = await boltworks(tmp_path, "pool", "topup", *args, env={"BOLTWORKS_DATABASE_URL": dsn})
    assert (typed.code, typed.out) == (2, "")
    assert "Traceback" not in typed.err
    assert await actions(dsn) == []
