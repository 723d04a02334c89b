"""The queue's driver: it listens again whatever its connection met, and ends when it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import asyncpg
import pytest

from gateway.execution import driver
from gateway.execution.driver import PatientDriver
from ledger.database import Pool
from tests.waiting import PATIENCE_S

FAULTS = (
    asyncpg.InvalidCatalogNameError("3D000"),
    asyncpg.InvalidPasswordError("28P01"),
    asyncpg.PostgresIOError("58030"),
    ConnectionError("lost"),
)


class Connection:
    """Listens; `cut` ends it as the server would."""

    def __init__(self) -> None:
        self.closed = False
        self.terminated: list[Callable[[object], None]] = []

    def add_termination_listener(self, tell: Callable[[object], None]) -> None:
        self.terminated.append(tell)

    async def add_listener(self, channel: str, relay: object) -> None: ...

    def is_closed(self) -> bool:
        return self.closed

    def cut(self) -> None:
        self.closed = True
        for tell in self.terminated:
            tell(self)


class RefusingPool:
    """Gives a connection, or raises the next of `faults`."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.given: asyncio.Queue[Connection] = asyncio.Queue()

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        if self.faults:
            raise self.faults.pop(0)
        conn = Connection()
        self.given.put_nowait(conn)
        yield conn


def driver_on(pool: RefusingPool) -> PatientDriver:
    return PatientDriver(cast(Pool, pool))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "RETRY_S", 0.01)


async def test_listening_begins_whatever_the_first_connections_met(caplog: pytest.LogCaptureFixture) -> None:
    patient = driver_on(RefusingPool(*FAULTS))
    async with asyncio.timeout(PATIENCE_S):
        await patient.add_listener("a channel", print)
        await patient.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"] * len(FAULTS)


async def test_it_listens_again_whatever_the_new_connection_met() -> None:
    pool = RefusingPool()
    patient = driver_on(pool)
    async with asyncio.timeout(PATIENCE_S):
        await patient.add_listener("a channel", print)
        pool.faults.extend(FAULTS)
        (await pool.given.get()).cut()
        await pool.given.get()
        await patient.close()
    assert pool.faults == []


async def test_a_listener_that_ends_before_it_listens_is_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ends(*_: object) -> None:
        raise RuntimeError("not caught")

    monkeypatch.setattr(PatientDriver, "_listen_for_ever", ends)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(RuntimeError):
            await driver_on(RefusingPool()).add_listener("a channel", print)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_listener_that_falls_while_it_is_stopped_has_ended(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []

    async def listen(_: object, channel: str, callback: object, listening: asyncio.Event) -> None:
        begun.append(channel)
        await falls_when_stopped(listening, fault)

    monkeypatch.setattr(PatientDriver, "_listen", listen)
    patient = driver_on(RefusingPool())
    async with asyncio.timeout(PATIENCE_S):
        await patient.add_listener("a channel", print)
        await patient.close()
    assert begun == ["a channel"]


async def test_a_statement_that_falls_while_it_is_stopped_is_not_repeated() -> None:
    """asyncpg's `release` may raise in place of the CancelledError."""
    begun, runs = asyncio.Event(), 0

    async def statement() -> None:
        nonlocal runs
        runs += 1
        await falls_when_stopped(begun, asyncpg.InterfaceError("released too late"))

    task = asyncio.create_task(driver._patiently(statement))
    async with asyncio.timeout(PATIENCE_S):
        await begun.wait()
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled()
    assert runs == 1


async def falls_when_stopped(begun: asyncio.Event, fault: Exception) -> None:
    try:
        begun.set()
        await asyncio.Event().wait()
    finally:
        raise fault
