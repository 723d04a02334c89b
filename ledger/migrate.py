"""Forward-only migrations under a lock; a file that was applied and has changed since is a fault."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import resources

from ledger.database import Connection

_LOCK_ID = 0x626F6C74776B73  # "boltwks": one migration at a time per database


class MigrationError(Exception):
    """The database and this release's migrations do not fit; one plain line."""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known_migrations() -> tuple[Migration, ...]:
    """The files `NNNN_name.sql`, numbered from 1 without a gap."""
    files = [f for f in resources.files("ledger").joinpath("migrations").iterdir() if f.name.endswith(".sql")]
    migrations = []
    for number, file in enumerate(sorted(files, key=lambda f: f.name), start=1):
        version, _, rest = file.name.partition("_")
        if int(version) != number:
            raise MigrationError(f"migration {file.name} should have number {number:04}")
        migrations.append(Migration(number, rest.removesuffix(".sql"), file.read_text(encoding="utf-8")))
    return tuple(migrations)


async def migrate(conn: Connection, also: Callable[[Connection], Awaitable[None]] | None = None) -> list[Migration]:
    """Apply what is missing, each migration in a transaction of its own; answers what was applied.

    `also` runs under the same lock afterwards (the queue's own schema). Raises MigrationError.
    """
    await conn.execute("select pg_advisory_lock($1)", _LOCK_ID)
    try:
        await conn.execute(
            "create table if not exists schema_migrations (version integer primary key, name text not null,"
            " sha256 text not null, applied_at timestamptz not null default now())"
        )
        applied = {r["version"]: r["sha256"] for r in await conn.fetch("select * from schema_migrations")}
        known = known_migrations()
        _refuse_misfit(applied, known)
        missing = [migration for migration in known if migration.version not in applied]
        for migration in missing:
            async with conn.transaction():
                await conn.execute(migration.sql)
                await conn.execute(
                    "insert into schema_migrations (version, name, sha256) values ($1, $2, $3)",
                    migration.version,
                    migration.name,
                    migration.sha256,
                )
        if also is not None:
            await also(conn)
        return missing
    finally:
        await conn.execute("select pg_advisory_unlock($1)", _LOCK_ID)


def _refuse_misfit(applied: dict[int, str], known: tuple[Migration, ...]) -> None:
    newest = len(known)
    if applied and max(applied) > newest:
        raise MigrationError(
            f"the database is at migration {max(applied)}, this release knows {newest}: run a newer boltworks"
        )
    for migration in known:
        if applied.get(migration.version, migration.sha256) != migration.sha256:
            raise MigrationError(f"migration {migration.version:04}_{migration.name} was changed after it was applied")
