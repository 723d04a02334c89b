"""The pool of connections to PostgreSQL, and what counts as the database being away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

DATABASE_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection cut between two messages of one statement
    asyncpg.TransactionRollbackError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.OperatorInterventionError,
    ConnectionError,
    asyncio.TimeoutError,
    OSError,
)
"""Faults of the connection or of the moment, not of the statement: the same statement may well succeed later."""


CLOSE_S = 2.0
"""A process that stops does not wait for a database that does not answer."""


def to_jsonb(value: Any) -> str:
    """jsonb travels as text: a codec on the connection would also change what the queue's library reads."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def from_jsonb(text: str | None) -> Any:
    return None if text is None else json.loads(text)


async def _no_reset(connection: Any) -> None:
    """Whoever listens or takes an advisory lock undoes it itself: a round trip less for every statement."""


_ARRAYS = ("text", "bytea", "bigint", "int", "jsonb", "inet", "timestamptz", "interval", "float8")


async def _know_arrays(connection: Any) -> None:
    """asyncpg asks for each type of array that it meets, on each connection (5 ms a time): here it asks once."""
    columns = ", ".join(f"${place}::{name}[]" for place, name in enumerate(_ARRAYS, 1))
    await connection.prepare(f"select {columns}")


@asynccontextmanager
async def open_pool(dsn: str, *, min_size: int = 2, max_size: int = 16) -> AsyncIterator[Pool]:
    """A pool on `dsn`; every session in UTC, every statement bounded in time."""
    pool = asyncpg.create_pool(
        dsn,
        min_size=min_size,
        max_size=max_size,
        command_timeout=30,
        reset=_no_reset,
        init=_know_arrays,
        server_settings={
            "timezone": "UTC",
            "application_name": "boltworks",
            # Planned once a connection, not again for each of the first five values.
            "plan_cache_mode": "force_generic_plan",
            # Such a plan stays: one made on an empty table would read all of it for as long as the connection lives.
            "enable_seqscan": "off",
            "idle_in_transaction_session_timeout": "30s",
            "lock_timeout": "10s",
        },
    )
    await pool
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(CLOSE_S):
                await pool.close()
        except (TimeoutError, *DATABASE_AWAY):
            pool.terminate()
