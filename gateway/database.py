"""The process's database: the operator's own or the embedded one, brought up to this release."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from gateway.execution.queue import install_queue
from gateway.settings import PREFIX, Settings
from ledger.database import DATABASE_AWAY, Pool, open_pool
from ledger.embedded import EmbeddedPostgresError, embedded_postgres
from ledger.migrate import Migration, MigrationError, migrate

log = logging.getLogger(__name__)


class StartError(Exception):
    """The process can not start; one plain line."""


@asynccontextmanager
async def database_dsn(settings: Settings) -> AsyncIterator[str]:
    """The operator's own PostgreSQL, or the embedded one in DATA_DIR. Raises StartError."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    try:
        async with embedded_postgres(settings.data_dir) as server:
            yield server.dsn
    except EmbeddedPostgresError as error:
        raise StartError(str(error)) from None


async def migrate_database(dsn: str) -> list[Migration]:
    """Bring the schema up to this release, under a lock. Raises StartError."""
    try:
        conn = await asyncpg.connect(dsn, timeout=15, server_settings={"timezone": "UTC"})
    except (*DATABASE_AWAY, asyncpg.PostgresError) as error:
        raise StartError(f"{PREFIX}DATABASE_URL: the database can not be reached: {error}") from None
    try:
        return await migrate(conn, also=install_queue)
    except MigrationError as error:
        raise StartError(str(error)) from None
    finally:
        await conn.close()


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Pool]:
    """A pool on the migrated database."""
    async with database_dsn(settings) as dsn:
        for migration in await migrate_database(dsn):
            log.info("migrated to %04d_%s", migration.version, migration.name)
        async with open_pool(dsn, min_size=4, max_size=18) as pool:
            yield pool
