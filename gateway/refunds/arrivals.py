"""Payments that arrived, as LND says: recorded in groups, with their refunds and the book."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.refunds.attempt import Attempt
from ledger import sql, transfers
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
    """A group's payments, in one statement, which is a transaction by itself: attempts, refunds and the book.

    False: its lease was lost, whoever has it now records it.
    """
    booked = [(one, transfer) for one in arrived for transfer in _refund_paid(one)]
    paid = await conn.fetch(
        _q.record_paid,
        [one.attempt.id for one in arrived],
        [one.owner for one in arrived],
        [one.preimage for one in arrived],
        [one.fee_msat for one in arrived],
        [one.attempt.row["job_id"] for one in arrived],
        [one.attempt.id for one, _ in booked],
        [one.owner for one, _ in booked],
        *transfers.columns([transfer for _, transfer in booked]),
    )
    won = {(row["id"], row["owner"]) for row in paid}
    return [(one.attempt.id, one.owner) in won for one in arrived]


def _refund_paid(one: Arrived) -> tuple[transfers.Transfer, ...]:
    """Pure."""
    return transfers.refund_paid(one.attempt.id, sats_to_msat(one.attempt.row["amount_sats"]), one.fee_msat)
