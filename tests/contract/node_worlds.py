"""A node with a world around it: others who pay it, and others whom it pays. In memory, or real LND."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from lightning.bolt11 import read
from lightning.fake import FakeNode
from lightning.node import Node
from lightning.regtest.control import AsyncControl
from lightning.types import Failed, FailureReason, InFlight


@dataclass(frozen=True, slots=True)
class Held:
    """An invoice whose payment stays in flight until `take` is called."""

    payment_request: str
    take: Callable[[], Awaitable[None]]


class World(Protocol):
    @property
    def node(self) -> Node: ...

    async def pay(self, payment_request: str) -> None:
        """Somebody pays an invoice of the node."""

    async def foreign_invoice(self, amount_sats: int, *, expiry_s: int = 3600) -> str:
        """Somebody else's invoice, payable by the node; 0: amountless."""

    async def unpayable_invoice(self, amount_sats: int) -> str:
        """Somebody else's invoice, which he has canceled."""

    async def held_invoice(self, amount_sats: int) -> Held: ...


@dataclass(frozen=True, slots=True)
class FakeWorld:
    node: FakeNode

    async def pay(self, payment_request: str) -> None:
        self.node.settle(read(payment_request).payment_hash)

    async def foreign_invoice(self, amount_sats: int, *, expiry_s: int = 3600) -> str:
        return self.node.foreign_invoice(amount_sats * 1000 or None, expiry_s=expiry_s)

    async def unpayable_invoice(self, amount_sats: int) -> str:
        self.node.next_outcomes.extend([Failed(FailureReason.INCORRECT_PAYMENT_DETAILS, 0)] * 2)
        return self.node.foreign_invoice(amount_sats * 1000)

    async def held_invoice(self, amount_sats: int) -> Held:
        self.node.next_outcomes.append(InFlight())
        request = self.node.foreign_invoice(amount_sats * 1000)

        async def take() -> None:
            self.node.resolve(read(request).payment_hash)

        return Held(request, take)


@dataclass(frozen=True, slots=True)
class LndWorld:
    node: Node
    other: AsyncControl
    """The other node, at the far end of the channels."""

    async def pay(self, payment_request: str) -> None:
        payment = await self.other.pay(payment_request)
        assert payment.succeeded, payment.failure

    async def foreign_invoice(self, amount_sats: int, *, expiry_s: int = 3600) -> str:
        return await self.other.invoice(amount_sats, expiry_s=expiry_s)

    async def unpayable_invoice(self, amount_sats: int) -> str:
        request = await self.other.invoice(amount_sats)
        await self.other.cancel(read(request).payment_hash)
        return request

    async def held_invoice(self, amount_sats: int) -> Held:
        request, preimage = await self.other.hold_invoice(amount_sats)

        async def take() -> None:
            await self.other.wait_accepted(read(request).payment_hash)
            await self.other.settle(preimage)

        return Held(request, take)
