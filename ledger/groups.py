"""Group commit: one coroutine per process takes what is waiting, and one transaction carries all of it.

A caller waits holding no connection and no lock. A group that fails is retried one by one, so one bad ask spoils no
other; a COMMIT of unknown outcome is tried again, and `apply` must find what stands already by its cause.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import asyncpg

from ledger.database import DATABASE_AWAY, Connection, Pool

A = TypeVar("A")
R = TypeVar("R")

MAX_GROUP = 256
READ_TIMEOUT_S = 5.0
"""Of a shared read: a connection that carries nothing any more must not hold up all readers of the process."""
TRIED_AGAIN = (*DATABASE_AWAY, asyncpg.UniqueViolationError)
"""A unique violation: the first try of the same ask was still committing when this one looked for what stands."""


class Groups(Generic[A, R]):
    """`apply(conn, asks)` runs inside one transaction and answers in the order of its asks.

    `one_statement`: all that it does is one, which is a transaction by itself.
    """

    def __init__(
        self,
        pool: Pool,
        apply: Callable[[Connection, Sequence[A]], Awaitable[list[R]]],
        *,
        one_statement: bool = False,
    ) -> None:
        self._pool = pool
        self._apply = apply
        self._one_statement = one_statement
        self._waiting: deque[tuple[A, asyncio.Future[R]]] = deque()
        self._leader: asyncio.Task[None] | None = None

    async def submit(self, ask: A) -> R:
        """The answer, once it is committed. Raises what `apply` or the database raised for this ask alone."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, answer))
        if self._leader is None or self._leader.done():
            self._leader = asyncio.create_task(self._lead())
        return await answer

    async def _lead(self) -> None:
        while self._waiting:
            taken = [self._waiting.popleft() for _ in range(min(MAX_GROUP, len(self._waiting)))]
            group = [(ask, answer) for ask, answer in taken if not answer.done()]  # nobody waits for the others
            if not group:
                continue
            try:
                await self._commit(group)
            except BaseException as error:
                if _is_stop(error):
                    for _, answer in (*group, *self._waiting):
                        answer.cancel()
                    self._waiting.clear()
                    raise
                for _, answer in group:
                    if not answer.done():
                        answer.set_exception(error)

    async def _commit(self, group: list[tuple[A, asyncio.Future[R]]]) -> None:
        try:
            answers = await self._apply_to([ask for ask, _ in group])
        except Exception:  # noqa: BLE001 - whatever it was, each is tried by itself, and its own fault is its answer
            for ask, answer in group:
                await self._alone(ask, answer)
        else:
            _answer(group, answers)

    async def _alone(self, ask: A, answer: asyncio.Future[R]) -> None:
        try:
            try:
                (result,) = await self._apply_to([ask])
            except TRIED_AGAIN:
                (result,) = await self._apply_to([ask])
        except Exception as error:  # noqa: BLE001 - handed to the caller, who translates it
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(result)

    async def _apply_to(self, asks: Sequence[A]) -> list[R]:
        if not self._one_statement:
            return await self._once(asks)
        async with self._pool.acquire() as conn:
            return await self._apply(conn, asks)

    async def _once(self, asks: Sequence[A]) -> list[R]:
        """One transaction."""
        async with self._pool.acquire() as conn, conn.transaction():
            return await self._apply(conn, asks)


class Lookups(Groups[Any, Any]):
    """Rows by their key, for all who ask at the same time in one statement; None for a key that has none.

    `statement` takes an array of keys and answers one row for each that it finds, with the key in its column `key`.
    A fault of the moment is asked once more, on another connection. What fails then fails for all at once: a read
    is spoiled by no single key.
    """

    def __init__(self, pool: Pool, statement: str, key: str) -> None:
        super().__init__(pool, self._read, one_statement=True)
        self._statement, self._key = statement, key

    async def _read(self, conn: Connection, keys: Sequence[Any]) -> list[Any]:
        rows = await conn.fetch(self._statement, list(set(keys)), timeout=READ_TIMEOUT_S)
        found = {row[self._key]: row for row in rows}
        return [found.get(wanted) for wanted in keys]

    async def _commit(self, group: list[tuple[Any, asyncio.Future[Any]]]) -> None:
        keys = [key for key, _ in group]
        try:
            rows = await self._apply_to(keys)
        except DATABASE_AWAY:
            rows = await self._apply_to(keys)
        _answer(group, rows)


def _answer(group: Sequence[tuple[A, asyncio.Future[R]]], answers: Sequence[R]) -> None:
    """To those who still wait."""
    for (_, waits), answer in zip(group, answers, strict=True):
        if not waits.done():
            waits.set_result(answer)


def _is_stop(error: BaseException) -> bool:
    return not isinstance(error, Exception)
