"""Refund destinations on real nodes: whatever is asked in parallel, the payer's own node receives it once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from lightning.regtest.control import AsyncControl
from lightning.regtest.network import Network
from tests.gateways import Buyer, GatewayProcess, gateway_process
from tests.lnurl_wallet import Wallet, serving_wallet
from tests.services import WorkService


@pytest_asyncio.fixture
async def wallet(payer: AsyncControl) -> AsyncIterator[Wallet]:
    """Its invoices are made by the payer's LND."""

    async def make_invoice(amount_msat: int, description_hash: bytes) -> str:
        return await payer.invoice(0, amount_msat=amount_msat, description_hash=description_hash)

    async with serving_wallet(make_invoice) as wallet:
        yield wallet


@pytest_asyncio.fixture
async def running_gateway(
    regtest: Network, dsn: str, service: WorkService, tmp_path: Path
) -> AsyncIterator[GatewayProcess]:
    """`boltworks serve` on real nodes; Lightning Addresses of this machine may be asked."""
    settings = {
        **regtest.access.settings(),
        "BOLTWORKS_CONFIG": str(service.catalogue(tmp_path / "boltworks.toml")),
        "BOLTWORKS_LNURL_ALLOW_HOSTS": "127.0.0.1",
    }
    async with gateway_process(tmp_path, dsn, settings) as gateway:
        yield gateway


async def owing(buyer: Buyer, payer: AsyncControl) -> dict[str, Any]:
    job = await buyer.buy("echo", {"cost": 30})
    await payer.pay(job["invoice"]["paymentRequest"])
    await buyer.until(job, state="complete", refundState="pending", refundAmountSats=70)
    return job


async def settled_of(payer: AsyncControl, invoices: list[str]) -> int:
    """How many of the payer's invoices its own node calls settled."""
    hashes = {(await payer.decode(invoice)).payment_hash for invoice in invoices}
    seen = [await payer.lookup(bytes.fromhex(payment_hash)) for payment_hash in hashes]
    return sum(invoice is not None and invoice.state == "settled" for invoice in seen)


@pytest.mark.parametrize("different", [False, True], ids=["equal invoices", "different invoices"])
async def test_twenty_parallel_claims_pay_once(buyer: Buyer, payer: AsyncControl, different: bool) -> None:
    before = await payer.settled_balance_msat()
    job = await owing(buyer, payer)
    invoices = [await payer.invoice(70) for _ in range(20 if different else 1)]
    claims = invoices if different else invoices * 20
    answers = await asyncio.gather(*(buyer.refund(job, invoice) for invoice in claims))
    statuses = [status for status, _ in answers]
    assert statuses.count(202) == (1 if different else 20)
    assert set(statuses) <= {202, 409}
    await buyer.until(job, refundState="paid", refundAmountSats=70)
    assert await settled_of(payer, invoices) == 1
    assert before - await payer.settled_balance_msat() == 30_000


async def test_twenty_calls_of_one_withdrawal_pay_once(buyer: Buyer, payer: AsyncControl) -> None:
    before = await payer.settled_balance_msat()
    job = await owing(buyer, payer)
    _, code = await buyer.call("GET", f"/api/jobs/{job['id']}/refund/lnurl", token=job["token"])
    path = code["url"].removeprefix(buyer.url)
    _, offer = await buyer.call("GET", path)
    invoices = [await payer.invoice(70) for _ in range(20)]
    answers = await asyncio.gather(
        *(buyer.call("GET", f"{path}/pay?k1={offer['k1']}&pr={invoice}") for invoice in invoices)
    )
    assert sorted(answer["status"] for _, answer in answers) == ["ERROR"] * 19 + ["OK"]
    await buyer.until(job, refundState="paid", refundAmountSats=70)
    assert await settled_of(payer, invoices) == 1
    assert before - await payer.settled_balance_msat() == 30_000


async def test_a_lightning_address_is_paid_once(buyer: Buyer, payer: AsyncControl, wallet: Wallet) -> None:
    before = await payer.settled_balance_msat()
    job = await owing(buyer, payer)
    answers = await asyncio.gather(*(buyer.refund(job, f"ann@{wallet.host}") for _ in range(5)))
    assert 202 in {status for status, _ in answers}
    await buyer.until(job, refundState="paid", refundAmountSats=70)
    assert await settled_of(payer, wallet.invoices) == 1
    assert before - await payer.settled_balance_msat() == 30_000


async def test_without_a_fee_budget_the_free_route_is_taken(
    regtest: Network, dsn: str, service: WorkService, tmp_path: Path, buyer: Buyer, payer: AsyncControl
) -> None:
    """LND reads a fee limit of 0 as free routes only; the direct channel is one."""
    before = await payer.settled_balance_msat()
    folder = tmp_path / "frugal"
    folder.mkdir()
    settings = {
        **regtest.access.settings(),
        "BOLTWORKS_CONFIG": str(service.catalogue(folder / "boltworks.toml")),
        "BOLTWORKS_REFUND_FEE_BUDGET_SATS_PER_DAY": "0",
        "BOLTWORKS_TOKEN_SECRET_FILE": str(tmp_path / "data/secrets/token_secret"),
    }
    async with gateway_process(folder, dsn, settings) as frugal:
        job = await owing(buyer, payer)
        assert (await Buyer(buyer.http, frugal.url).refund(job, await payer.invoice(70)))[0] == 202
        await buyer.until(job, refundState="paid", refundAmountSats=70)
    conn = await asyncpg.connect(dsn)
    assert await conn.fetchval("select array_agg((fee_limit_msat, fee_msat)::text) from refund_attempts") == ["(0,0)"]
    await conn.close()
    assert before - await payer.settled_balance_msat() == 30_000
