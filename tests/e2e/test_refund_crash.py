"""A refund under way while things die: it arrives once, as seen from the payer's own node."""

from __future__ import annotations

import asyncio

import pytest

from lightning.regtest.control import AsyncControl
from lightning.regtest.network import Network
from tests.gateways import Buyer, GatewayProcess


async def owing(buyer: Buyer, payer: AsyncControl) -> dict[str, object]:
    job = await buyer.buy("echo", {"cost": 30})
    await payer.pay(job["invoice"]["paymentRequest"])
    await buyer.until(job, state="complete", refundState="pending", refundAmountSats=70)
    return job


@pytest.mark.parametrize("taken", [True, False], ids=["then taken", "then refused"])
async def test_gateway_killed_with_the_refund_in_flight(
    running_gateway: GatewayProcess, buyer: Buyer, payer: AsyncControl, taken: bool
) -> None:
    before = await payer.settled_balance_msat()
    job = await owing(buyer, payer)
    held, preimage = await payer.hold_invoice(70)
    payment_hash = bytes.fromhex((await payer.decode(held)).payment_hash)
    assert (await buyer.refund(job, held))[0] == 202
    await payer.wait_accepted(payment_hash)
    await running_gateway.kill()
    await (payer.settle(preimage) if taken else payer.cancel(payment_hash))
    await running_gateway.start()
    if not taken:
        await buyer.until(job, refundState="pending", refundAmountSats=70)
        await buyer.refund(job, await payer.invoice(70))
    await buyer.until(job, refundState="paid", refundAmountSats=70)
    assert before - await payer.settled_balance_msat() == 30_000


async def test_lnd_killed_with_the_refund_in_flight(buyer: Buyer, payer: AsyncControl, regtest: Network) -> None:
    before = await payer.settled_balance_msat()
    job = await owing(buyer, payer)
    held, preimage = await payer.hold_invoice(70)
    await buyer.refund(job, held)
    await payer.wait_accepted(bytes.fromhex((await payer.decode(held)).payment_hash))
    await asyncio.to_thread(regtest.kill, "gateway")
    await payer.settle(preimage)
    assert (await buyer.job(job))["refundState"] == "paying"
    await asyncio.to_thread(regtest.start, "gateway")
    await asyncio.to_thread(regtest.wait_ready, "gateway")
    await asyncio.to_thread(regtest.wait_channels)
    await buyer.until(job, refundState="paid", refundAmountSats=70, timeout_s=60)
    assert before - await payer.settled_balance_msat() == 30_000


async def test_gateway_killed_right_after_a_refund_was_asked_for(
    running_gateway: GatewayProcess, buyer: Buyer, payer: AsyncControl
) -> None:
    """Eight times, at moments that fall before, within and after the send."""
    before = await payer.settled_balance_msat()
    for number in range(8):
        job = await owing(buyer, payer)
        back = await payer.invoice(70)
        await buyer.refund(job, back)
        await asyncio.sleep(number * 0.01)
        await running_gateway.kill()
        await running_gateway.start()
        await buyer.until(job, refundState="paid", refundAmountSats=70)
    assert before - await payer.settled_balance_msat() == 8 * 30_000


async def test_an_invoice_paid_by_the_node_before_is_not_used_again(
    buyer: Buyer, payer: AsyncControl, gateway_node: AsyncControl
) -> None:
    job = await owing(buyer, payer)
    back = await payer.invoice(70)
    assert (await gateway_node.pay(back)).succeeded
    status, problem = await buyer.refund(job, back)
    assert (status, problem["code"]) == (409, "destination_used")


async def test_an_invoice_that_lnd_would_not_send_to_is_refused_at_the_door(buyer: Buyer, payer: AsyncControl) -> None:
    """LND decodes AMP invoices and refuses each plain send to one."""
    job = await owing(buyer, payer)
    status, problem = await buyer.refund(job, await payer.invoice(70, amp=True))
    assert (status, problem["code"]) == (422, "destination_invalid")
    assert (await buyer.job(job))["refundState"] == "pending"
