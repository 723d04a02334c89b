"""PgQueuer's database driver, made patient: a database that is away for a moment does not end the queue's loop.

If the loop ended, PgQueuer would wait for all running work before anything could start it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver, Relay
from pgqueuer.ports.driver import NotifyCallback

from gateway.supervise import raise_if_cancelled
from ledger.database import CLOSE_S, DATABASE_AWAY, Pool

T = TypeVar("T")
log = logging.getLogger(__name__)

RETRY_S = 0.5
GATHER_S = 0.1
QUEUE_CHANGED = "table_changed_event"
"""The type of the events of which one says as much as many."""


class PatientDriver(AsyncpgPoolDriver):
    """Repeats a statement whose connection broke (the queue's own are safe to repeat) and listens anew."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._patient_pool = pool
        self._listeners: set[asyncio.Task[None]] = set()
        self._kept = KeptConnection(pool)

    async def __aenter__(self) -> Self:
        """Before the first task is taken: later every connection of the pool may be busy."""
        await _patiently(self._kept.open)
        return await super().__aenter__()

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        return await _patiently(lambda: super(PatientDriver, self).fetch(query, *args))

    async def execute(self, query: str, *args: object) -> str:
        return await _patiently(lambda: super(PatientDriver, self).execute(query, *args))

    async def execute_apart(self, query: str, *args: object) -> None:
        """On a connection of its own, past all who wait for one of the pool's."""
        await _patiently(lambda: self._kept.execute(query, *args))

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        listening = asyncio.Event()
        task = asyncio.create_task(self._listen_for_ever(channel, callback, listening))
        self._listeners.add(task)
        await _begun(listening, task)

    async def _listen_for_ever(self, channel: str, callback: NotifyCallback, listening: asyncio.Event) -> None:
        """Whatever a new connection meets (no such database, a refused password, a full disk): it is tried again.

        Nobody would start this task again, and a queue that hears nothing still looks well.
        """
        while True:
            try:
                await self._listen(channel, callback, listening)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is said and tried again
                raise_if_cancelled(error)
                log.warning("the queue does not listen: %s: %s; trying again", type(error).__name__, error)
                await asyncio.sleep(RETRY_S)

    async def _listen(self, channel: str, callback: NotifyCallback, listening: asyncio.Event) -> None:
        lost = asyncio.Event()

        def tell(_: object) -> None:
            lost.set()

        relay = Relay(gathered(callback))
        async with self._patient_pool.acquire() as conn:
            conn.add_termination_listener(tell)
            await conn.add_listener(channel, relay)
            listening.set()
            try:
                await lost.wait()
            finally:
                if not conn.is_closed():
                    conn.remove_termination_listener(tell)
                    async with asyncio.timeout(CLOSE_S):
                        await conn.remove_listener(channel, relay)

    async def close(self) -> None:
        for task in self._listeners:
            task.cancel()
        await asyncio.gather(*self._listeners, return_exceptions=True)
        await self._kept.close()


class KeptConnection:
    """One connection of the pool, kept for statements that must not wait for others; a new one when it breaks."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._conn: PoolConnectionProxy[asyncpg.Record] | None = None
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        async with self._lock:
            await self._opened()

    async def execute(self, query: str, *args: object) -> None:
        async with self._lock:
            conn = await self._opened()
            try:
                await conn.execute(query, *args)
            except BaseException:
                self._drop(conn)
                raise

    async def close(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            with suppress(*DATABASE_AWAY):
                await self._pool.release(conn, timeout=CLOSE_S)

    async def _opened(self) -> PoolConnectionProxy[asyncpg.Record]:
        if self._conn is None:
            self._conn = await self._pool.acquire()
        return self._conn

    def _drop(self, conn: PoolConnectionProxy[asyncpg.Record]) -> None:
        """Whatever state it is in; the pool opens another in its place."""
        self._conn = None
        with suppress(asyncpg.InterfaceError):  # the server cut it, and the pool knows
            conn.terminate()


def gathered(callback: NotifyCallback) -> NotifyCallback:
    """That the queue changed is passed on at once, but not again within 100 ms; all other words always are.

    Under load the queue is asked ten times a second for many tasks, not once for each task.
    """
    loop = asyncio.get_running_loop()
    newest: str | bytes | bytearray | None = None
    gathering = False

    def pass_on() -> None:
        nonlocal newest, gathering
        word, newest = newest, None
        gathering = word is not None
        if word is not None:
            loop.call_later(GATHER_S, pass_on)
            callback(word)

    def heard(word: str | bytes | bytearray) -> None:
        nonlocal newest, gathering
        if QUEUE_CHANGED not in str(word):
            callback(word)
        elif gathering:
            newest = word
        else:
            gathering = True
            loop.call_later(GATHER_S, pass_on)
            callback(word)

    return heard


async def _begun(event: asyncio.Event, task: asyncio.Task[None]) -> None:
    """Wait for what the task sets. Raises what the task raised if it ended first."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if task.done():
        task.result()


async def _patiently(statement: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await statement()
        except DATABASE_AWAY as error:
            raise_if_cancelled(error)
            log.warning("the queue waits for the database: %s", error)
            await asyncio.sleep(RETRY_S)
