"""Containers killed, frozen and cut off while money is under way: it arrives once, and the book is right afterwards.

All of it on the stack's own gateway, worker and watcher. The payer's channel balance is the truth.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from lightning.regtest.control import AsyncControl, NodeError, PaymentStatus
from lightning.regtest.docker.containers import Containers
from lightning.regtest.docker.stack import BOLTWORKS, SERVICES, DockerNetwork
from tests.conftest import assert_books_right
from tests.gateways import Buyer

PDF = "markdown-pdf"
TEXT = {"markdown": "# Hello\n\n" + "A paragraph of some length. " * 60, "title": "Hello"}
HEALED_WITHIN_S = 180
"""A cut connection may be noticed only when a statement's time is up."""
TROUBLE_S = 3
"""How long it lasts at least: beyond one look of sweep and refund executor."""


@dataclass(frozen=True)
class Kill:
    services: tuple[str, ...]

    def strike(self, containers: Containers) -> None:
        for service in self.services:
            containers.kill(service)

    def heal(self, containers: Containers) -> None:
        for service in self.services:
            containers.start(service)


@dataclass(frozen=True)
class Pause:
    services: tuple[str, ...]

    def strike(self, containers: Containers) -> None:
        for service in self.services:
            containers.pause(service)

    def heal(self, containers: Containers) -> None:
        for service in self.services:
            containers.resume(service)


@dataclass(frozen=True)
class Cut:
    services: tuple[str, ...]
    network: str

    def strike(self, containers: Containers) -> None:
        for service in self.services:
            containers.cut(service, self.network)

    def heal(self, containers: Containers) -> None:
        for service in self.services:
            containers.join(service, self.network)


Trouble = Kill | Pause | Cut

TROUBLES = {
    "LND killed": Kill(("lnd-gateway",)),
    "LND frozen": Pause(("lnd-gateway",)),
    "LND off bitcoind": Cut(("lnd-gateway",), "chain-gateway"),
    "the peers apart": Cut(("lnd-payer",), "ln"),
    "boltworks killed": Kill(BOLTWORKS),
    "boltworks frozen": Pause(BOLTWORKS),
    "boltworks off LND": Cut(BOLTWORKS, "node"),
    "boltworks off PostgreSQL": Cut(BOLTWORKS, "db"),
    "PostgreSQL killed": Kill(("postgres",)),
    "PostgreSQL frozen": Pause(("postgres",)),
    "the webhook's way cut": Cut(("watcher",), "webhook"),
}

every_trouble = pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES.keys())


@asynccontextmanager
async def in_trouble(stack: DockerNetwork, trouble: Trouble) -> AsyncIterator[None]:
    """The block runs in it; after it all is healed, and every service says so."""
    containers = stack.containers
    await asyncio.to_thread(trouble.strike, containers)
    try:
        yield
        await asyncio.sleep(TROUBLE_S)
    finally:
        await asyncio.to_thread(trouble.heal, containers)
    await asyncio.to_thread(stack.wait_ready, "gateway", HEALED_WITHIN_S)
    await asyncio.to_thread(stack.wait_channels, HEALED_WITHIN_S)
    await asyncio.to_thread(containers.wait_healthy, SERVICES, HEALED_WITHIN_S)


async def try_to_pay(payer: AsyncControl, payment_request: str) -> None:
    """In the midst of trouble: what becomes of it is asked for later."""
    with contextlib.suppress(NodeError):
        await payer.pay(payment_request, timeout_s=15)


async def paid_at_last(payer: AsyncControl, payment_request: str, payment_hash: bytes) -> bool:
    """Whether it arrived, once it is decided; one that failed, for want of a route, may be tried again."""
    async with asyncio.timeout(HEALED_WITHIN_S):
        while (seen := await payer.payment(payment_hash)) is not None and seen.status is PaymentStatus.IN_FLIGHT:
            await asyncio.sleep(0.2)
    return (seen is not None and seen.succeeded) or (await payer.pay(payment_request)).succeeded


@every_trouble
async def test_with_the_payment_under_way(
    stack: DockerNetwork, shop: Buyer, payer: AsyncControl, trouble: Trouble
) -> None:
    before = await payer.settled_balance_msat()
    job = await shop.buy(PDF, TEXT)
    request = job["invoice"]["paymentRequest"]
    async with in_trouble(stack, trouble):
        paying = asyncio.create_task(try_to_pay(payer, request))
        await asyncio.wait({paying}, timeout=TROUBLE_S)
    await paying
    assert await paid_at_last(payer, request, bytes.fromhex(job["invoice"]["paymentHash"]))
    done = await shop.until(job, timeout_s=HEALED_WITHIN_S, state="complete", refundState="pending")
    owed = done["refundAmountSats"]
    assert owed + done["userChargeSats"] == done["estimateSats"]
    assert (await shop.refund(job, await payer.invoice(owed)))[0] == 202
    await shop.until(job, timeout_s=HEALED_WITHIN_S, refundState="paid")
    assert before - await payer.settled_balance_msat() == done["userChargeSats"] * 1000
    await assert_books_right(stack.access.database_url)


@every_trouble
async def test_with_the_refund_in_flight(
    stack: DockerNetwork, shop: Buyer, payer: AsyncControl, trouble: Trouble
) -> None:
    """A hold invoice keeps it there; the payer takes it in the midst of the trouble."""
    before = await payer.settled_balance_msat()
    job = await shop.buy(PDF, TEXT)
    assert (await payer.pay(job["invoice"]["paymentRequest"])).succeeded
    done = await shop.until(job, state="complete", refundState="pending")
    held, preimage = await payer.hold_invoice(done["refundAmountSats"])
    assert (await shop.refund(job, held))[0] == 202
    await payer.wait_accepted(bytes.fromhex((await payer.decode(held)).payment_hash))
    async with in_trouble(stack, trouble):
        await payer.settle(preimage)
    await shop.until(job, timeout_s=HEALED_WITHIN_S, refundState="paid", refundAmountSats=done["refundAmountSats"])
    assert before - await payer.settled_balance_msat() == done["userChargeSats"] * 1000
    await assert_books_right(stack.access.database_url)
