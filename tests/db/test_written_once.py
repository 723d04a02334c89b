"""What replaced foreign keys holds as they did: nobody named is missing, and nobody who is named can go."""

from __future__ import annotations

import asyncpg
import pytest

from ledger.columns import bytes_column, column, numbers
from ledger.database import Pool

KNOWN, UNKNOWN = "aa" * 32, "bb" * 32
TRANSFER = "insert into transfers (cause_kind, cause_id, debit, credit, amount_msat) values ('x', '1', $1, $2, 1)"
RESERVATIONS = """
insert into reservations (id, pubkey, client_address, day, request_hash, reserved_sats)
select 'x:' || pubkey, pubkey, '10.0.0.1', current_date, sha256('x'), 1 from unnest($1::text[]) as pubkey
"""


@pytest.mark.parametrize(
    ("debit", "credit"),
    [("capital", "nowhere"), ("nowhere", "pool"), ("holding:nobody", "revenue"), ("node", "holding:nobody")],
)
async def test_a_transfer_names_accounts_that_are_there(pool: Pool, debit: str, credit: str) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await pool.execute(TRANSFER, debit, credit)
    assert await pool.fetchval("select count(*) from transfers") == 0


async def test_every_account_of_the_first_migration_that_is_not_looked_up_is_there(pool: Pool) -> None:
    """The trigger's short list may name only accounts that exist in every database."""
    definition = await pool.fetchval(
        "select pg_get_triggerdef(oid) from pg_trigger where tgname = 'transfers_name_accounts'"
    )
    quoted = set(definition.split("'")[1::2])
    assert {"pool", "pool_reserved", "node"} <= quoted
    there = {row["code"] for row in await pool.fetch("select code from accounts")}
    assert quoted <= there


async def test_reservations_are_of_known_identities(pool: Pool) -> None:
    await pool.execute("insert into identities (pubkey) values ($1)", KNOWN)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await pool.execute(RESERVATIONS, [KNOWN, UNKNOWN])
    assert await pool.fetchval("select count(*) from reservations") == 0
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute(RESERVATIONS, [KNOWN])
        with pytest.raises(asyncpg.RestrictViolationError):
            await conn.execute("update reservations set pubkey = $1", UNKNOWN)
        await transaction.rollback()


@pytest.mark.parametrize(
    "statement",
    [
        "delete from accounts where code = 'overruns'",
        "update accounts set code = 'other' where code = 'overruns'",
        "truncate accounts cascade",
        "delete from identities",
        "update identities set pubkey = repeat('cc', 32)",
        "truncate identities cascade",
    ],
)
async def test_who_was_named_stays(pool: Pool, statement: str) -> None:
    await pool.execute("insert into identities (pubkey) values ($1)", KNOWN)
    with pytest.raises(asyncpg.RestrictViolationError, match="never deleted or renamed"):
        await pool.execute(statement)


async def test_columns_come_out_as_they_went_in(pool: Pool) -> None:
    texts, sats, hashes = ["job:1", 'with "quotes", commas\n{}', "ü"], [0, -1, 10**15], [b"", b"\x00\xff", b"x" * 32]
    rows = await pool.fetch(
        "select text, sats, decode(hash, 'hex') from unnest(string_to_array($1, e'\\x1f'),"
        " string_to_array($2, e'\\x1f')::bigint[], string_to_array($3, e'\\x1f')) as made (text, sats, hash)",
        column(texts),
        numbers(sats),
        bytes_column(hashes),
    )
    assert [tuple(row) for row in rows] == list(zip(texts, sats, hashes, strict=True))
    assert await pool.fetchval("select cardinality(string_to_array($1, e'\\x1f'))", column([])) == 0


@pytest.mark.parametrize("values", [[""], ["a\x1fb"], ["a", "b\x1f"]])
def test_a_column_refuses_what_would_not_come_out(values: list[str]) -> None:
    with pytest.raises(ValueError, match="separator"):
        column(values)
