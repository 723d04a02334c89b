"""How far the node's payment history is known to reach: each send records it; a shorter one is noticed later."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field

from lightning.node import Node
from lightning.types import Failed, PaymentOutcome, Settled, Unknown

READ_AGAIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Reached:
    node_pubkey: str
    highest_payment_index: int


@dataclass(slots=True)
class KnownHistory:
    """One reading serves all sends of the next two seconds; indexes that payments showed meanwhile raise it.

    A node whose history was put back to within those two seconds is not told from the right one by what such a send
    recorded. Without the memory that held for the moment between reading and sending. What is decided after
    NOT_FOUND is always asked of the node anew.
    """

    node: Node
    _reached: Reached = Reached("", 0)
    _read_at: float = -math.inf
    _one_reads: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def reached(self) -> Reached:
        """Raises NodeUnavailable."""
        async with self._one_reads:
            own = await self.node.identity()
            now = time.monotonic()
            if own.pubkey != self._reached.node_pubkey:
                self._reached, self._read_at = Reached(own.pubkey, 0), -math.inf
            if now - self._read_at >= READ_AGAIN_S:
                self._raise(await self.node.highest_payment_index())
                self._read_at = now
            return self._reached

    def saw(self, outcome: PaymentOutcome) -> None:
        """What the node said of a payment: its index raises the reading; no word of it makes it worthless."""
        if isinstance(outcome, Settled | Failed):
            self._raise(outcome.payment_index)
        elif isinstance(outcome, Unknown):
            self._read_at = -math.inf

    def _raise(self, index: int) -> None:
        known = self._reached
        self._reached = Reached(known.node_pubkey, max(index, known.highest_payment_index))
