"""On real nodes: paid 10 % over, and paid while the gateway was down."""

from __future__ import annotations

from lightning.regtest.control import AsyncControl
from tests.gateways import Buyer, GatewayProcess


async def test_ten_percent_over_with_the_gateway_down_comes_back(
    running_gateway: GatewayProcess, buyer: Buyer, payer: AsyncControl
) -> None:
    before = await payer.settled_balance_msat()
    job = await buyer.buy("echo", {"cost": 30})
    await running_gateway.kill()
    paid = await payer.overpay(job["invoice"]["paymentRequest"], amount_msat=110_000)
    assert paid.succeeded, paid.failure
    await running_gateway.start()
    await buyer.until(job, state="complete", userChargeSats=30, refundState="pending", refundAmountSats=80)
    await buyer.refund(job, await payer.invoice(80))
    await buyer.until(job, refundState="paid")
    assert before - await payer.settled_balance_msat() == 30_000
