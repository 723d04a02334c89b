"""The operator decides what became of a frozen refund: it was paid, or it was not. One guarded transaction."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Any

from gateway.refunds.claim import reject_tried
from gateway.refunds.decisions import GiveUp
from gateway.refunds.owner import lock_owner
from ledger import book, sql, transfers
from ledger.database import Connection, Pool
from ledger.money import sats_to_msat

_q = sql.load("gateway.reconcile")
_refunds = sql.load("gateway.refunds")
log = logging.getLogger(__name__)

OPERATOR_SAID_UNPAID = "The operator found that this refund was not paid."


class AcceptError(Exception):
    """It can not be accepted like this; one plain line. Nothing was written."""


@dataclass(frozen=True, slots=True)
class WasPaid:
    preimage: bytes
    fee_msat: int


@dataclass(frozen=True, slots=True)
class WasNotPaid:
    """Its refunds are pending again and wait for a new destination."""


async def find_frozen(where: Pool | Connection, attempt_id: str) -> Any:
    """The row of a frozen attempt. Raises AcceptError."""
    attempt = await where.fetchrow(_q.attempt, attempt_id)
    if attempt is None:
        raise AcceptError(f"there is no refund attempt {attempt_id}")
    if attempt["state"] != "frozen":
        raise AcceptError(f"refund attempt {attempt_id} is {attempt['state']}: only a frozen one is yours to decide")
    return attempt


async def accept(pool: Pool, attempt_id: str, verdict: WasPaid | WasNotPaid) -> None:
    """Raises AcceptError: unknown, not frozen (any more), or a preimage that does not prove this payment."""
    async with pool.acquire() as conn, conn.transaction():
        await accept_in(conn, attempt_id, verdict)


async def accept_in(conn: Connection, attempt_id: str, verdict: WasPaid | WasNotPaid) -> None:
    """A part of the caller's transaction. Raises AcceptError."""
    attempt = await find_frozen(conn, attempt_id)
    if isinstance(verdict, WasPaid) and hashlib.sha256(verdict.preimage).digest() != bytes(attempt["payment_hash"]):
        raise AcceptError("this preimage does not hash to the attempt's payment hash: it proves nothing")
    await lock_owner(conn, attempt["job_id"])
    if isinstance(verdict, WasPaid):
        await _record_paid(conn, attempt, verdict)
    else:
        await _record_unpaid(conn, attempt_id)
    await conn.execute(_refunds.touch_job, attempt["job_id"])
    word = "paid" if isinstance(verdict, WasPaid) else "not paid"
    extra = {"job_id": attempt["job_id"], "payment_hash": bytes(attempt["payment_hash"]).hex()}
    log.warning("the operator accepted refund attempt %s as %s", attempt_id, word, extra=extra)


async def _record_paid(conn: Connection, attempt: Any, verdict: WasPaid) -> None:
    _won(await conn.fetchval(_q.accept_paid, attempt["id"], verdict.preimage, verdict.fee_msat))
    await conn.execute(_refunds.refunds_paid, attempt["id"])
    amount_msat = sats_to_msat(attempt["amount_sats"])
    await book.post(conn, transfers.refund_paid(attempt["id"], amount_msat, verdict.fee_msat))


async def _record_unpaid(conn: Connection, attempt_id: str) -> None:
    _won(await conn.fetchval(_q.accept_failed, attempt_id, OPERATOR_SAID_UNPAID))
    await conn.execute(_refunds.refunds_pending_again, attempt_id)
    await reject_tried(conn, attempt_id, GiveUp(OPERATOR_SAID_UNPAID))


def _won(attempt_id: str | None) -> None:
    if attempt_id is None:
        raise AcceptError("somebody else decided it meanwhile")
