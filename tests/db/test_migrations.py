"""Migrations go forward only, under a lock, and lead to the schema that the snapshot shows."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import asyncpg
import pytest

from gateway.database import migrate_database
from ledger.migrate import MigrationError, known_migrations, migrate

SNAPSHOT = Path(__file__).parent / "schema.snapshot"

DESCRIBE = """
select line from (
    select 1 as part, format('table %s: %s %s%s%s', c.table_name, c.column_name, c.data_type,
                  case c.is_nullable when 'NO' then ' not null' else '' end,
                  coalesce(' default ' || c.column_default, '')) as line
    from information_schema.columns c where c.table_schema = 'public' and c.table_name not like 'pgqueuer%'
    union all
    select 2, format('constraint %s on %s: %s', conname, conrelid::regclass, pg_get_constraintdef(oid))
    from pg_constraint
    where connamespace = 'public'::regnamespace and conrelid::regclass::text not like 'pgqueuer%' and contype <> 'n'
    union all
    select 3, format('index %s', indexdef) from pg_indexes
    where schemaname = 'public' and tablename not like 'pgqueuer%'
    union all
    select 4, format('trigger %s', pg_get_triggerdef(oid)) from pg_trigger
    where not tgisinternal and tgrelid::regclass::text not like 'pgqueuer%'
    union all
    select 5, format('function %s: %s', proname, md5(prosrc)) from pg_proc
    where pronamespace = 'public'::regnamespace and proname not like '%pgqueuer%'
) as described order by part, line
"""


async def test_the_schema_is_the_snapshot(dsn: str) -> None:
    conn = await asyncpg.connect(dsn)
    described = "\n".join(row["line"] for row in await conn.fetch(DESCRIBE)) + "\n"
    await conn.close()
    if os.environ.get("BOLTWORKS_WRITE_SNAPSHOT"):
        SNAPSHOT.write_text(described)
    assert described == SNAPSHOT.read_text(), "run `make schema` if the change is meant"


async def test_a_second_run_applies_nothing(empty_dsn: str) -> None:
    assert [m.version for m in await migrate_database(empty_dsn)] == [m.version for m in known_migrations()]
    assert await migrate_database(empty_dsn) == []


async def test_two_at_once_apply_each_migration_once(empty_dsn: str) -> None:
    first, second = await asyncio.gather(migrate_database(empty_dsn), migrate_database(empty_dsn))
    assert sorted(m.version for m in (*first, *second)) == [m.version for m in known_migrations()]


async def test_a_changed_migration_is_refused(dsn: str) -> None:
    conn = await asyncpg.connect(dsn)
    await conn.execute("update schema_migrations set sha256 = 'other' where version = 1")
    with pytest.raises(MigrationError, match="0001_book was changed"):
        await migrate(conn)
    await conn.close()


async def test_a_newer_database_is_refused(dsn: str) -> None:
    conn = await asyncpg.connect(dsn)
    await conn.execute("insert into schema_migrations (version, name, sha256) values (999, 'x', 'x')")
    with pytest.raises(MigrationError, match="run a newer boltworks"):
        await migrate(conn)
    await conn.close()
