"""The executor: takes a leased attempt, asks LND, applies the next step, until no attempt is due."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.ids import new_id
from gateway.metrics import Metrics
from gateway.reconcile.accept import OPERATOR_SAID_UNPAID
from gateway.reconcile.strangers import LOOK_AGAIN_S, Strangers
from gateway.refunds.arrivals import Arrived, record_arrived
from gateway.refunds.attempt import Attempt
from gateway.refunds.claim import reject_tried
from gateway.refunds.decisions import (
    Freeze,
    GiveUp,
    Paid,
    Send,
    SendLater,
    Wait,
    next_step,
)
from gateway.refunds.history import KnownHistory
from gateway.refunds.owner import lock_owner
from gateway.refunds.sends import LEASE_LOST, NextSend, count_sends
from ledger import sql
from ledger.database import Connection, Pool
from ledger.groups import Groups
from ledger.money import MAX_SATS, Msat, sats_to_msat
from lightning.node import Node
from lightning.types import NotFound, PaymentOutcome, Unknown

_q = sql.load("gateway.refunds")
_history = sql.load("gateway.reconcile")
log = logging.getLogger(__name__)

POLL_S = 1.0
COUNT_FROZEN_S = 5.0
FOLLOW_S = 5.0
"""How long a send is followed at once, half the lease at most (it is renewed in the step that counts the send).

LND goes on with the payment; later looks tell how it ended.
"""
LOOK_S = 1.5
"""How long a look-up waits for a terminal word: a payment that is held must not keep others waiting."""
FLIGHT_IS_FULL = "as much as may be is in flight"


@dataclass(slots=True)
class RefundExecutor:
    pool: Pool
    node: Node
    metrics: Metrics
    lease_s: float
    cltv_limit: int
    in_flight: int
    wake: asyncio.Event
    in_flight_cap_sats: int = MAX_SATS
    """Of all processes together."""
    tell: Callable[[str], None] = lambda _: None
    """That an owner's debt changed here: who waits in this process need not wait for PostgreSQL's word."""
    _strangers: Strangers | None = None
    _history: KnownHistory = field(init=False)
    _sends: Groups[NextSend, Any] = field(init=False)
    _arrivals: Groups[Arrived, bool] = field(init=False)
    _frozen_counted_at: float = -math.inf
    _all_taken: bool = False
    """No attempt was left waiting for a free place when it was last looked."""

    def __post_init__(self) -> None:
        self._history = KnownHistory(self.node)

        async def count(conn: Connection, sends: Sequence[NextSend]) -> list[Any]:
            return await count_sends(conn, sends, self.in_flight_cap_sats, self.lease_s)

        self._sends = Groups(self.pool, count, one_statement=True)
        self._arrivals = Groups(self.pool, record_arrived, one_statement=True)

    async def run(self) -> None:
        """Until cancelled. Cancellation in the middle is safe: the lease ends, and the look-up decides."""
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                free = self.in_flight - len(running)
                self._all_taken = False
                if free > 0:
                    # A new name for each batch: a task that outlived its lease can write nothing under a later one.
                    owner = new_id()
                    leased = await self.pool.fetch(_q.lease_due, owner, self.lease_s, free)
                    self._all_taken = len(leased) < free
                    for row in leased:
                        task = asyncio.create_task(self._guarded(Attempt(row), owner))
                        running.add(task)
                        task.add_done_callback(running.discard)
                await self._count_frozen()
                await self._next_wake()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _count_frozen(self) -> None:
        """Now and then: it is for the alarm alone."""
        now = asyncio.get_running_loop().time()
        if now - self._frozen_counted_at >= COUNT_FROZEN_S:
            self.metrics.frozen_refunds.set(await self.pool.fetchval(_q.frozen))
            self._frozen_counted_at = now

    async def _next_wake(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self.wake.wait()
        except TimeoutError:
            return
        self.wake.clear()

    async def _guarded(self, attempt: Attempt, owner: str) -> None:
        try:
            await self.advance(attempt, owner)
        except Exception as error:  # noqa: BLE001 - unknown is never failed: the lease ends and another look decides
            log.warning("refund step fell: %s: %s", type(error).__name__, error, extra=attempt.log)
        else:
            if not self._all_taken:
                self.wake.set()

    async def advance(self, attempt: Attempt, owner: str) -> None:
        """Look up, decide, apply; at most one send."""
        outcome = await self.node.track_payment(attempt.payment_hash, deadline_s=LOOK_S)
        self._history.saw(outcome)
        step = await self._decide(attempt, outcome)
        if isinstance(step, Send):
            sent = await self._send(attempt, owner)
            step = Wait(False, FLIGHT_IS_FULL) if sent is None else await self._decide(attempt, sent)
        await self._apply(attempt, owner, step)

    async def _decide(self, attempt: Attempt, outcome: PaymentOutcome) -> Any:
        # Asked only where it decides: a payment that LND shows, once it was sent, speaks for itself.
        doubtful = isinstance(outcome, NotFound) or attempt.row["sends"] == 0
        intact = await self._history_intact(attempt) if doubtful and not isinstance(outcome, Unknown) else True
        return next_step(attempt.facts(intact), outcome, datetime.now(UTC))

    async def _history_intact(self, attempt: Attempt) -> bool:
        """Same node key, a highest payment index that is not lower than recorded, and the database's own history."""
        if await self._of_another_history(attempt):
            return False
        if attempt.row["sends"] == 0:
            return True
        info = await self.node.get_info()
        if info.pubkey != attempt.row["node_pubkey"]:
            return False
        recorded = await self.pool.fetchval(_q.highest_recorded_index, info.pubkey)
        return bool(await self.node.highest_payment_index() >= recorded)

    async def _of_another_history(self, attempt: Attempt) -> bool:
        """An older backup of the database was restored, and this debt may have been paid in the time that was lost."""
        strangers = self._strangers or Strangers(self.pool, self.node)
        self._strangers = strangers
        count = await strangers.look(LOOK_AGAIN_S if attempt.row["sends"] == 0 else 0.0)
        self.metrics.strange_invoices.set(count)
        if strangers.newest is None:
            return False
        args = (attempt.id, strangers.newest, OPERATOR_SAID_UNPAID)
        return bool(await self.pool.fetchval(_history.debt_of_another_history, *args))

    async def _counted(self, attempt: Attempt, owner: str) -> Any:
        """The attempt's row with one more send in it; None: it would be more than may be in flight."""
        counted = await self._sends.submit(NextSend(attempt, owner, await self._history.reached()))
        if counted is LEASE_LOST:
            raise RuntimeError("the lease was lost before the send; nothing was sent")
        return counted

    async def _send(self, attempt: Attempt, owner: str) -> PaymentOutcome | None:
        """None: nothing was sent, it must wait for others in flight."""
        row = await self._counted(attempt, owner)
        if row is None:
            return None
        attempt.row = row
        lease_left_s = (row["lease_until"] - row["now"]).total_seconds()
        if lease_left_s <= 0:
            raise RuntimeError("the lease ended while the send was counted; nothing was sent")
        self.metrics.refunds.labels("sent").inc()
        log.info("refund is sent", extra=attempt.log)
        outcome = await self.node.send_payment(
            row["payment_request"],
            amount_msat=sats_to_msat(row["amount_sats"]) if row["amountless"] else None,
            fee_limit_msat=Msat(row["fee_limit_msat"]),
            cltv_limit=self.cltv_limit,
            timeout_s=60,
            deadline_s=min(FOLLOW_S, lease_left_s / 2),
        )
        self._history.saw(outcome)
        return outcome

    async def _apply(self, attempt: Attempt, owner: str, step: Any) -> None:
        match step:
            case Paid(preimage, fee_msat):
                await self._record_paid(attempt, owner, preimage, fee_msat)
            case GiveUp():
                await self._record_failed(attempt, owner, step)
                self.metrics.refunds.labels("failed").inc()
                log.warning("refund failed: %s", step.reason, extra=attempt.log)
            case Freeze(reason):
                await self._record_frozen(attempt, owner, reason)
                log.error("ALARM: refund frozen: %s", reason, extra=attempt.log)
            case SendLater(failed_index, delay, why):
                await self.pool.execute(_q.count_failure, attempt.id, owner, failed_index, delay.total_seconds(), why)
                await self.pool.execute(_q.touch_job, attempt.row["job_id"])
            case Wait(update_seen, why):
                log.debug("refund waits: %s", why, extra=attempt.log)
                await self.pool.execute(_q.look_again, attempt.id, owner, update_seen, attempt.look_again_s)
            case _:
                await self.pool.execute(_q.look_again, attempt.id, owner, False, attempt.look_again_s)

    async def _record_paid(self, attempt: Attempt, owner: str, preimage: bytes, fee_msat: int) -> None:
        if await self._arrivals.submit(Arrived(attempt, owner, preimage, fee_msat)):
            self.tell(attempt.row["job_id"])
            self.metrics.refunds.labels("paid").inc()
            log.info("refund is paid", extra=attempt.log)

    async def _record_failed(self, attempt: Attempt, owner: str, step: GiveUp) -> None:
        """Its refunds are pending again; an address on file that gave the invoice says why."""
        async with self.pool.acquire() as conn, conn.transaction():
            await lock_owner(conn, attempt.row["job_id"])
            job_id = await conn.fetchval(_q.record_failed, attempt.id, owner, step.reason)
            if job_id is None:
                return
            await conn.execute(_q.refunds_pending_again, attempt.id)
            await reject_tried(conn, attempt.id, step)
            await conn.execute(_q.touch_job, job_id)

    async def _record_frozen(self, attempt: Attempt, owner: str, reason: str) -> None:
        """Its refunds stay claimed until the operator decides."""
        async with self.pool.acquire() as conn, conn.transaction():
            await lock_owner(conn, attempt.row["job_id"])
            job_id = await conn.fetchval(_q.record_frozen, attempt.id, owner, reason)
            if job_id is not None:
                await conn.execute(_q.touch_job, job_id)
