"""What the operator says of refunds: a rejected destination is asked once more, a frozen payment was made or not."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import Any

from gateway import problems
from gateway.operator.log import Actor, Logged, acting
from gateway.problems import Problem, ProblemType
from gateway.reconcile.accept import AcceptError, WasNotPaid, WasPaid, accept_in, find_frozen
from gateway.refunds.decisions import NO_HTLC_LIVES_AFTER
from ledger import sql
from ledger.database import Pool
from lightning.node import Node
from lightning.types import InFlight, NodeUnavailable, Settled, Unknown

_q = sql.load("gateway.operator")

NOT_ACCEPTED = ProblemType("refund_not_accepted", 409, "This can not be said of this refund")
LOOK_S = 5.0
"""How long LND is waited for."""
REFUND_ID = re.compile("[A-Za-z0-9_-]{1,64}")


async def find_refund(pool: Pool, refund_id: str) -> Any:
    """`id, owner_id, amount_sats, state, refund_to, refund_to_error`. Raises Problem (404)."""
    known = await pool.fetchrow(_q.refund_to_retry, refund_id) if REFUND_ID.fullmatch(refund_id) else None
    if known is None:
        raise Problem(problems.REFUND_NOT_FOUND)
    return known


async def retry_refund(pool: Pool, wake: asyncio.Event, actor: Actor, refund_id: str) -> tuple[Any, Logged]:
    """The row (`job_id, refund_to, amount_sats`) and its line in the log. Raises Problem (404, 409)."""
    known = await find_refund(pool, refund_id)
    async with acting(pool, actor, "refund_retry", refund_id, f"{known['amount_sats']} sats") as act:
        row = await act.conn.fetchrow(_q.retry_refund, refund_id)
        if row is None:
            raise Problem(problems.REFUND_NOT_RETRYABLE, why_not(known) or "It changed meanwhile.")
    wake.set()
    return row, act.logged


def why_not(known: Any) -> str:
    """Why there is nothing to try again; empty when there is. Pure."""
    if known["state"] != "pending":
        return f"It is {known['state']}."
    if known["refund_to"] is None:
        return "No destination is on file: it waits until its payer gives one."
    return "" if known["refund_to_error"] is not None else "Its destination was not rejected: it is tried anyway."


async def frozen_attempt(pool: Pool, attempt_id: str) -> Any:
    """`id, job_id, payment_hash, amount_sats, failure_reason, destination`. Raises Problem (404, 409)."""
    if not REFUND_ID.fullmatch(attempt_id):
        raise Problem(problems.REFUND_NOT_FOUND)
    try:
        return await find_frozen(pool, attempt_id)
    except AcceptError as error:
        raise Problem(NOT_ACCEPTED, _sentence(error)) from None


async def decide_frozen(
    pool: Pool, node: Node | None, actor: Actor, attempt_id: str, verdict: WasPaid | WasNotPaid
) -> Logged:
    """Its line in the log. Raises Problem (404, 409): nothing was booked.

    A node that now says it was paid, or is in flight, is believed before an operator who says it was not. Raises
    NodeUnavailable. None: there is none to ask.
    """
    attempt = await frozen_attempt(pool, attempt_id)
    if isinstance(verdict, WasNotPaid) and node is not None:
        await _refuse_if_paid(node, attempt)
    word = "was paid" if isinstance(verdict, WasPaid) else "was not paid"
    async with acting(pool, actor, "refund_decided", attempt_id, f"{attempt['amount_sats']} sats: {word}") as act:
        try:
            await accept_in(act.conn, attempt_id, verdict)
        except AcceptError as error:
            raise Problem(NOT_ACCEPTED, _sentence(error)) from None
    return act.logged


async def _refuse_if_paid(node: Node, attempt: Any) -> None:
    """Raises Problem: it was paid, or may still be. NodeUnavailable: nothing is known."""
    outcome = await node.track_payment(bytes(attempt["payment_hash"]), deadline_s=LOOK_S)
    if isinstance(outcome, Unknown):
        raise NodeUnavailable(outcome.why)
    if isinstance(outcome, InFlight) and datetime.now(UTC) < attempt["expires_at"] + NO_HTLC_LIVES_AFTER:
        raise Problem(NOT_ACCEPTED, "LND has this payment in flight: it may still be paid. Wait until it has ended.")
    if isinstance(outcome, Settled):
        proof = f"preimage {outcome.preimage.hex()}, routing fee {outcome.fee_msat} msat"
        raise Problem(NOT_ACCEPTED, f"LND says that this payment was made: {proof}. Say that it was paid.")


def _sentence(error: AcceptError) -> str:
    """Pure."""
    words = str(error)
    return f"{words[:1].upper()}{words[1:]}."
