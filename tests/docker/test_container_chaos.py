"""Containers killed, frozen and cut off while money is under way: it arrives once, and the book is right afterwards.

All of it on the stack's own gateway, worker and watcher. The payer's channel balance is the truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from lightning.regtest.control import AsyncControl, NodeError
from lightning.regtest.docker.containers import Containers
from lightning.regtest.docker.stack import BOLTWORKS, SERVICES, DockerNetwork
from tests.conftest import assert_books_right
from tests.gateways import Buyer

PDF = "markdown-pdf"
TEXT = {"markdown": "# Hello\n\n" + "A paragraph of some length. " * 60, "title": "Hello"}
HEALED_WITHIN_S = 180
"""A cut connection may be noticed only when a statement's time is up."""


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
    finally:
        await asyncio.to_thread(trouble.heal, containers)
    await asyncio.to_thread(stack.wait_ready, "gateway", HEALED_WITHIN_S)
    await asyncio.to_thread(stack.wait_channels, HEALED_WITHIN_S)
    await asyncio.to_thread(containers.wait_healthy, SERVICES, HEALED_WITHIN_S)


async def pay_whatever_happens(payer: AsyncControl, payment_request: str) -> bool:
    """Whether it arrived; False also when the payer's node could not say."""
    try:
        return (await payer.pay(payment_request, timeout_s=15)).succeeded
    except NodeError:
        return False


@every_trouble
async def test_with_the_payment_under_way(
    stack: DockerNetwork, shop: Buyer, payer: AsyncControl, trouble: Trouble
) -> None:
    before = await payer.settled_balance_msat()
    job = await shop.buy(PDF, TEXT)
    request = job["invoice"]["paymentRequest"]
    paying = asyncio.create_task(pay_whatever_happens(payer, request))
    async with in_trouble(stack, trouble):
        await asyncio.wait({paying}, timeout=3)
    if not await paying:
        seen = await payer.payment(bytes.fromhex(job["invoice"]["paymentHash"]))
        if seen is None or not seen.succeeded:
            assert (await payer.pay(request)).succeeded
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
