"""Who waits for a job hears of its change: one listening connection per process, however many wait."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from ledger.database import CLOSE_S, Pool

JOBS = "boltworks_job"
REFUNDS = "boltworks_refund"
OPERATOR = "boltworks_operator"
"""What the operator did, and each session of the operator's that ended."""
CHANNELS = (JOBS, REFUNDS, OPERATOR)

GATHER_S = 0.03
"""Changes of refunds are told together: who was asked in this process is woken at once, and by name."""


class Hub:
    """`watch(job_id)` gives an event that is set at each change of the job, and after a lost connection."""

    def __init__(self) -> None:
        self._telling: asyncio.TimerHandle | None = None
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._refunds: set[asyncio.Event] = set()
        self._all: set[asyncio.Event] = set()

    @property
    def watched(self) -> int:
        """Jobs that somebody waits for."""
        return len(self._waiting)

    @contextmanager
    def watch(self, job_id: str) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        self._waiting[job_id].add(event)
        try:
            yield event
        finally:
            self._waiting[job_id].discard(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    @contextmanager
    def watch_all(self) -> Iterator[asyncio.Event]:
        """An event that is set at each change of any job or session that is told, and whenever the operator acted."""
        event = asyncio.Event()
        self._all.add(event)
        try:
            yield event
        finally:
            self._all.discard(event)

    def tell(self, watched: str) -> None:
        """This process committed a change of a job or session: its own listeners need not wait for PostgreSQL's word.

        Nor do they wait for a word that it never says, because it would be said too often.
        """
        for event in (*self._waiting.get(watched, ()), *self._all):
            event.set()

    def wake_on_refunds(self, event: asyncio.Event) -> None:
        """Set the event whenever a refund is owed, claimed or ended (who pays refunds waits so)."""
        self._refunds.add(event)

    async def run(self, pool: Pool) -> None:
        """Listen until cancelled; falls when the connection is lost (the supervisor starts it again)."""
        async with self._listening(pool) as lost:
            self._wake_all()
            await lost.wait()
            raise ConnectionError("the listening connection was lost")

    @asynccontextmanager
    async def _listening(self, pool: Pool) -> AsyncIterator[asyncio.Event]:
        lost = asyncio.Event()

        def tell(_: object) -> None:
            lost.set()

        async with pool.acquire() as conn:
            conn.add_termination_listener(tell)
            for channel in CHANNELS:
                await conn.add_listener(channel, self._heard)
            try:
                yield lost
            finally:
                if not conn.is_closed():
                    conn.remove_termination_listener(tell)
                    async with asyncio.timeout(CLOSE_S):
                        for channel in CHANNELS:
                            await conn.remove_listener(channel, self._heard)

    def _heard(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        if channel != REFUNDS:
            self.tell(str(payload))
        elif self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(GATHER_S, self._tell_refunds)

    def _tell_refunds(self) -> None:
        self._telling = None
        for event in self._refunds:
            event.set()

    def _wake_all(self) -> None:
        for event in (*(e for events in self._waiting.values() for e in events), *self._refunds, *self._all):
            event.set()
