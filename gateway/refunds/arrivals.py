"""Payments that arrived, as LND says: recorded in groups, with their refunds and the book."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from gateway.refunds.attempt import Attempt
from gateway.refunds.owner import lock_owners
from ledger import book, sql, transfers
from ledger.database import Connection
from ledger.money import sats_to_msat

_q = sql.load("gateway.refunds")


@dataclass(frozen=True, slots=True)
class Arrived:
    """A payment that LND says has arrived."""

    attempt: Attempt
    owner: str
    preimage: bytes
    fee_msat: int


async def record_arrived(conn: Connection, arrived: Sequence[Arrived]) -> list[bool]:
    """A group's payments, in the caller's transaction: attempts and refunds are paid, the book has both.

    False: its lease was lost, whoever has it now records it.
    """
    await lock_owners(conn, [one.attempt.row["job_id"] for one in arrived])
    paid = await conn.fetch(
        _q.record_paid,
        [one.attempt.id for one in arrived],
        [one.owner for one in arrived],
        [one.preimage for one in arrived],
        [one.fee_msat for one in arrived],
    )
    booked = [transfers.refund_paid(row["id"], sats_to_msat(row["amount_sats"]), row["fee_msat"]) for row in paid]
    await book.post(conn, list(chain.from_iterable(booked)))
    won = {(row["id"], row["owner"]) for row in paid}
    return [(one.attempt.id, one.owner) in won for one in arrived]
