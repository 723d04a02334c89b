"""Who did what, and how it ended. An action and its line are one transaction: neither stands without the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from gateway.jobs.create import ClientAddress
from gateway.problems import Problem
from ledger import sql
from ledger.database import Connection, Pool

_q = sql.load("gateway.operator")

Outcome = Literal["done", "repeated"]


@dataclass(frozen=True, slots=True)
class Actor:
    """`who`: a logged-in `session`, the bearer of the `key`, or a `command` on the machine (which has no address)."""

    who: Literal["session", "key", "command"]
    session_id: str | None = None
    address: ClientAddress | None = None


COMMAND = Actor("command")


@dataclass(frozen=True, slots=True)
class Logged:
    """An action that is over: the number of its line in the log."""

    id: int
    outcome: Outcome


@dataclass(slots=True)
class Act:
    """An action under way. `outcome` is the use case's to change."""

    conn: Connection
    outcome: Outcome = "done"
    id: int | None = None

    @property
    def logged(self) -> Logged:
        """Once it is over."""
        if self.id is None:
            raise RuntimeError("the action is not over")
        return Logged(self.id, self.outcome)


@asynccontextmanager
async def acting(pool: Pool, actor: Actor, action: str, subject: str, said: str) -> AsyncIterator[Act]:
    """The transaction of one action, with its line. A Problem rolls it back, and leaves a line that it was refused."""
    about = (actor.who, actor.session_id, actor.address, action, subject, said)
    try:
        async with pool.acquire() as conn, conn.transaction():
            act = Act(conn)
            yield act
            act.id = await conn.fetchval(_q.log_action, *about, act.outcome, None)
    except Problem as refusal:
        await pool.execute(_q.log_action, *about, "refused", refusal.type.code)
        raise
