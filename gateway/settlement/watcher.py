"""Follows LND's settlements and delivers each to the webhook. One watcher is active per database.

The cursor only shortens what LND replays. Events that were never told are found by the sweep.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from gateway.metrics import Metrics
from gateway.settlement.cursor import Cursor
from gateway.settlement.deliver import Delivered, Sender, persistently
from gateway.settlement.event import SettledEvent, settled_event
from gateway.settlement.heard import Heard
from gateway.supervise import raise_if_cancelled
from ledger import sql
from ledger.database import CLOSE_S, DATABASE_AWAY, Pool
from lightning.node import InvoiceReader
from lightning.types import Invoice, NodeUnavailable

_q = sql.load("gateway.settlement")
log = logging.getLogger(__name__)

LOCK_ID = 0x77617463686572  # "watcher"
STAND_BY_S = 2.0
SAVE_CURSOR_S = 1.0
RETRY_PARKED_S = 5.0
MAX_UNACKNOWLEDGED = 5_000
MAX_RECONNECT_S = 5.0


@dataclass(slots=True)
class Watcher:
    """`on_connect` is called at each (re)connection to LND: time to look up what the stream may have missed.

    `heard` is told what the stream says, for a webhook in the same process.
    """

    pool: Pool
    node: InvoiceReader
    sender: Sender
    metrics: Metrics
    on_connect: Callable[[], None]
    heard: Heard = field(default_factory=Heard)
    _deliveries: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Until cancelled. Falls (and is started again by its supervisor) when the database goes away."""
        async with self._only_one() as lost, asyncio.TaskGroup() as group:
            group.create_task(_fall_when(lost))
            group.create_task(self._retry_parked())
            group.create_task(self._follow_for_ever())

    @asynccontextmanager
    async def _only_one(self) -> AsyncIterator[asyncio.Event]:
        """Holds the database's watcher lock; the event tells that its connection, and so the lock, is lost."""
        async with self.pool.acquire() as conn:
            told = False
            while not await conn.fetchval("select pg_try_advisory_lock($1)", LOCK_ID):
                if not told:
                    log.info("another watcher is active on this database; standing by")
                    told = True
                await asyncio.sleep(STAND_BY_S)
            lost = asyncio.Event()

            def tell(_: object) -> None:
                lost.set()

            conn.add_termination_listener(tell)
            try:
                yield lost
            finally:
                if not conn.is_closed():
                    conn.remove_termination_listener(tell)
                    await conn.execute("select pg_advisory_unlock($1)", LOCK_ID, timeout=CLOSE_S)

    async def _follow_for_ever(self) -> None:
        backoff_s = 0.1
        while True:
            try:
                info = await self.node.get_info()
                start = await self._trusted_cursor(info.pubkey)
                log.info("watching settlements from index %s", start)
                self.on_connect()
                backoff_s = 0.1
                await self._follow(info.pubkey, start)
            except NodeUnavailable as error:
                log.warning("the node's stream broke (%s); connecting again", error)
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, MAX_RECONNECT_S)

    async def _trusted_cursor(self, node_pubkey: str) -> int:
        """The stored cursor if its witness still stands at LND, else 0 (live events only; the sweep finds the rest).

        A cursor above LND's own highest index would suppress live events.
        """
        row = await self.pool.fetchrow(_q.cursor, node_pubkey)
        if row is None or row["settle_index"] == 0 or row["payment_hash"] is None:
            return 0
        witness = await self.node.lookup_invoice(bytes(row["payment_hash"]))
        if witness is None or witness.settle_index != row["settle_index"]:
            log.warning("the stored cursor %s does not fit this node; starting without", row["settle_index"])
            return 0
        return int(row["settle_index"])

    async def _follow(self, node_pubkey: str, start: int) -> None:
        cursor = Cursor(start)
        saver = asyncio.create_task(self._save_cursor(node_pubkey, cursor))
        try:
            async with aclosing(self.node.subscribe_settlements(start)) as settlements:
                async for invoice in settlements:
                    cursor.seen(invoice.settle_index)
                    self._start_delivery(node_pubkey, cursor, invoice)
                    while len(self._deliveries) >= MAX_UNACKNOWLEDGED:
                        await asyncio.wait(self._deliveries, return_when=asyncio.FIRST_COMPLETED)
        finally:
            saver.cancel()
            for task in self._deliveries:
                task.cancel()
            await asyncio.gather(saver, *self._deliveries, return_exceptions=True)
            await self._store(node_pubkey, cursor)

    def _start_delivery(self, node_pubkey: str, cursor: Cursor, invoice: Invoice) -> None:
        task = asyncio.create_task(self._deliver(node_pubkey, cursor, invoice))
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    async def _deliver(self, node_pubkey: str, cursor: Cursor, invoice: Invoice) -> None:
        event = settled_event(invoice)
        self.heard.keep(invoice)
        try:
            with self.metrics.settle_delay.time():
                outcome = await persistently(self.sender, event)
        finally:
            self.heard.forget(invoice.payment_hash)
        if not isinstance(outcome, Delivered):
            log.error(
                "ALARM: a settlement's webhook keeps failing, parked: %s",
                outcome.why,
                extra={"payment_hash": invoice.payment_hash.hex()},
            )
            await self._park(node_pubkey, event, invoice.payment_hash, outcome.why)
        cursor.acknowledge(invoice.settle_index, invoice.payment_hash)

    async def _park(self, node_pubkey: str, event: SettledEvent, payment_hash: bytes, why: str) -> None:
        """Durable before the cursor passes it."""
        while True:
            try:
                await self.pool.execute(_q.park, payment_hash, node_pubkey, event.webhook_id, event.body, why)
                self.metrics.parked_events.set(await self.pool.fetchval(_q.count_parked))
                return
            except DATABASE_AWAY as error:
                raise_if_cancelled(error)
                await asyncio.sleep(1.0)

    async def _retry_parked(self) -> None:
        while True:
            for row in await self.pool.fetch(_q.parked_due):
                outcome = await self.sender.once(SettledEvent(row["webhook_id"], row["body"]))
                if isinstance(outcome, Delivered):
                    await self.pool.execute(_q.unpark, row["payment_hash"])
                else:
                    await self.pool.execute(_q.parked_again, row["payment_hash"], outcome.why)
            self.metrics.parked_events.set(await self.pool.fetchval(_q.count_parked))
            await asyncio.sleep(RETRY_PARKED_S)

    async def _save_cursor(self, node_pubkey: str, cursor: Cursor) -> None:
        stored = cursor.position
        while True:
            await asyncio.sleep(SAVE_CURSOR_S)
            position = cursor.position
            if position != stored:
                try:
                    await self._store(node_pubkey, cursor)
                except (*DATABASE_AWAY, TimeoutError) as error:
                    raise_if_cancelled(error)
                    log.warning("the cursor was not stored (%s); trying again", type(error).__name__)
                else:
                    stored = position

    async def _store(self, node_pubkey: str, cursor: Cursor) -> None:
        if cursor.witness is not None:
            await self.pool.execute(_q.store_cursor, node_pubkey, cursor.position, cursor.witness)


async def _fall_when(lost: asyncio.Event) -> None:
    await lost.wait()
    raise ConnectionError("the watcher's connection to the database was lost")
