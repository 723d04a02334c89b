"""A send is counted before it leaves, in the step that checks and renews its lease, within the cap on all in flight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.refunds.attempt import Attempt
from gateway.refunds.decisions import may_join_flight
from gateway.refunds.history import Reached
from ledger import sql
from ledger.database import Connection

_q = sql.load("gateway.refunds")

LEASE_LOST = object()
"""Of a send that was not counted: somebody else holds the attempt, or it has ended."""
SENDS_LOCK_ID = 0x626F_6C74_7365_6E64
"""Of the advisory lock under which sends are counted, one after another."""


@dataclass(frozen=True, slots=True)
class NextSend:
    """A send that is about to leave, and what is recorded with it."""

    attempt: Attempt
    owner: str
    reached: Reached


@dataclass(slots=True)
class Flight:
    """What is in flight while a group's sends are counted."""

    sats: int
    attempts: set[str]

    def others_sats(self, attempt_id: str, amount_sats: int) -> int:
        return self.sats - amount_sats if attempt_id in self.attempts else self.sats

    def join(self, attempt_id: str, amount_sats: int) -> None:
        if attempt_id not in self.attempts:
            self.attempts.add(attempt_id)
            self.sats += amount_sats


async def count_sends(conn: Connection, sends: Sequence[NextSend], cap_sats: int, lease_s: float) -> list[Any]:
    """A group's sends: in one statement, which is a transaction by itself, if all keep within the cap together; else
    in a transaction of their own, one after another.

    Each: its row with one more send in it, None (it would be more than `cap_sats` in flight), or LEASE_LOST.
    """
    fits, counted = await _counted(conn, sends, cap_sats, lease_s)
    if fits:
        return counted
    async with conn.transaction():
        return await _as_many_as_fit(conn, sends, cap_sats, lease_s)


async def _counted(
    conn: Connection, sends: Sequence[NextSend], cap_sats: int | None, lease_s: float
) -> tuple[bool, list[Any]]:
    """Whether they keep within the cap (None: that is decided) together; if so, each counted row, or LEASE_LOST."""
    rows = await conn.fetch(
        _q.count_sends,
        SENDS_LOCK_ID,
        cap_sats,
        [send.attempt.id for send in sends],
        [send.owner for send in sends],
        [send.attempt.row["sends"] for send in sends],
        [send.reached.node_pubkey for send in sends],
        [send.reached.highest_payment_index for send in sends],
        lease_s,
    )
    counted = {(row["id"], row["lease_owner"]): row for row in rows}
    return rows[0]["fits"], [counted.get((send.attempt.id, send.owner), LEASE_LOST) for send in sends]


async def _as_many_as_fit(conn: Connection, sends: Sequence[NextSend], cap_sats: int, lease_s: float) -> list[Any]:
    """In the caller's transaction, in the order of the asks."""
    in_flight = await conn.fetch(_q.sends_in_flight, SENDS_LOCK_ID)
    flight = Flight(sum(row["sats"] for row in in_flight), {row["attempt_id"] for row in in_flight})
    return [await _count_send(conn, send, flight, cap_sats, lease_s) for send in sends]


async def _count_send(conn: Connection, send: NextSend, flight: Flight, cap_sats: int, lease_s: float) -> Any:
    attempt = send.attempt
    amount_sats = attempt.row["amount_sats"]
    if not may_join_flight(amount_sats, flight.others_sats(attempt.id, amount_sats), cap_sats):
        return None
    _, (counted,) = await _counted(conn, [send], None, lease_s)
    if counted is not LEASE_LOST:
        flight.join(attempt.id, amount_sats)
    return counted
