"""The webhook, the watcher and the sweep on real nodes: told once, twice, falsely, late, or never."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
import pytest_asyncio
from standardwebhooks import Webhook

from lightning.regtest.control import AsyncControl
from lightning.regtest.network import Network
from tests.gateways import Buyer, GatewayProcess, gateway_process
from tests.services import WorkService
from tests.waiting import PATIENCE_S

PATH = "/webhooks/lightning/invoice-settled"


@pytest_asyncio.fixture
async def unwatched(regtest: Network, dsn: str, service: WorkService, tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    """A server without a watcher and with a slow sweep: what is booked, the test's own webhook booked."""
    settings = {
        **regtest.access.settings(),
        "BOLTWORKS_CONFIG": str(service.catalogue(tmp_path / "boltworks.toml")),
        "BOLTWORKS_SWEEP_INTERVAL_S": "3600",
    }
    async with gateway_process(tmp_path, dsn, settings, start=False) as gateway:
        await gateway.start("serve", "--no-watch")
        yield gateway


@pytest.fixture
def client(http: aiohttp.ClientSession, unwatched: GatewayProcess) -> Buyer:
    return Buyer(http, unwatched.url)


def event(payment_hash: str, amount_msat: int = 100_000) -> str:
    now = datetime.now(UTC).isoformat()
    data = {"paymentHash": payment_hash, "amountPaidMsat": amount_msat, "settleIndex": 1, "settledAt": now}
    return json.dumps({"type": "invoice.settled", "timestamp": now, "data": data})


async def deliver(
    gateway: GatewayProcess,
    http: aiohttp.ClientSession,
    body: str,
    *,
    secret: str | None = None,
    at: datetime | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    if headers is None:
        at = at or datetime.now(UTC)
        secret = secret or (gateway.folder / "data/secrets/webhook_secret").read_text()
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(secret).sign("msg_1", at, body),
        }
    async with http.post(f"{gateway.url}{PATH}", data=body, headers=headers) as response:
        answer = await response.read()
        return response.status, json.loads(answer)["code"] if answer else ""


async def paid_job(client: Buyer, payer: AsyncControl, work_input: dict[str, Any]) -> dict[str, Any]:
    job = await client.buy("echo", work_input)
    await payer.pay(job["invoice"]["paymentRequest"])
    return job


async def test_a_webhook_books_once_and_is_acknowledged_again(
    unwatched: GatewayProcess, client: Buyer, payer: AsyncControl, http: aiohttp.ClientSession, service: WorkService
) -> None:
    job = await paid_job(client, payer, {"cost": 4})
    body = event(job["invoice"]["paymentHash"])
    answers = await asyncio.gather(*(deliver(unwatched, http, body) for _ in range(8)))
    assert answers == [(204, "")] * 8
    assert await deliver(unwatched, http, body) == (204, "")
    await client.until(job, state="complete", userChargeSats=4)
    assert len(service.orders) == 1


async def test_what_is_not_true_moves_nothing(
    unwatched: GatewayProcess, client: Buyer, payer: AsyncControl, http: aiohttp.ClientSession, service: WorkService
) -> None:
    unpaid = await client.buy("echo", {})
    body = event(unpaid["invoice"]["paymentHash"])
    forged = "whsec_" + "A" * 43 + "="
    assert await deliver(unwatched, http, body) == (409, "not_settled")
    assert await deliver(unwatched, http, body, secret=forged) == (401, "webhook_signature_invalid")
    assert await deliver(unwatched, http, body, headers={}) == (401, "webhook_signature_invalid")
    garbled = {"webhook-id": "x", "webhook-timestamp": "nan", "webhook-signature": "v1 nothing,,, v1,%%%"}
    assert await deliver(unwatched, http, body, headers=garbled) == (401, "webhook_signature_invalid")
    for minutes in (-6, 6):
        at = datetime.now(UTC) + timedelta(minutes=minutes)
        assert await deliver(unwatched, http, body, at=at) == (401, "webhook_signature_invalid")
    assert await deliver(unwatched, http, event(secrets.token_hex(32))) == (404, "unknown_invoice")
    assert await deliver(unwatched, http, "{}") == (422, "invalid_body")
    assert await deliver(unwatched, http, "{") == (400, "invalid_request")
    assert (await client.job(unpaid))["state"] == "awaiting_work_payment"
    assert service.orders == []


async def test_a_false_amount_is_not_believed(
    unwatched: GatewayProcess, client: Buyer, payer: AsyncControl, http: aiohttp.ClientSession
) -> None:
    job = await paid_job(client, payer, {"cost": 4})
    assert await deliver(unwatched, http, event(job["invoice"]["paymentHash"], 900_000_000)) == (204, "")
    done = await client.until(job, state="complete", userChargeSats=4, refundAmountSats=96)
    assert done["invoice"]["amountPaidSats"] == 100


async def test_the_webhook_waits_for_the_node(
    unwatched: GatewayProcess, client: Buyer, payer: AsyncControl, http: aiohttp.ClientSession, regtest: Network
) -> None:
    job = await paid_job(client, payer, {})
    body = event(job["invoice"]["paymentHash"])
    await asyncio.to_thread(regtest.stop, "gateway")
    try:
        assert await deliver(unwatched, http, body) == (503, "node_unavailable")
    finally:
        await asyncio.to_thread(regtest.start, "gateway")
        await asyncio.to_thread(regtest.wait_ready, "gateway")
        await asyncio.to_thread(regtest.wait_channels)
    async with asyncio.timeout(PATIENCE_S):
        while await deliver(unwatched, http, body) != (204, ""):
            await asyncio.sleep(0.2)
    await client.until(job, state="complete")


async def test_the_sweep_finds_what_nobody_told(unwatched: GatewayProcess, client: Buyer, payer: AsyncControl) -> None:
    job = await paid_job(client, payer, {"cost": 9})
    await unwatched.stop()
    await unwatched.start("serve", "--no-watch")
    await client.until(job, state="complete", userChargeSats=9)


async def set_cursor(gateway: GatewayProcess, settle_index: int, payment_hash: bytes | None) -> None:
    conn = await asyncpg.connect(gateway.dsn)
    changed = await conn.execute(
        "update watcher_cursor set settle_index = $1, payment_hash = $2", settle_index, payment_hash
    )
    await conn.close()
    assert changed == "UPDATE 1"


async def stored_cursor(gateway: GatewayProcess) -> tuple[int, bytes | None]:
    conn = await asyncpg.connect(gateway.dsn)
    row = await conn.fetchrow("select settle_index, payment_hash from watcher_cursor")
    await conn.close()
    return (row["settle_index"], row["payment_hash"]) if row else (0, None)


@pytest.mark.parametrize("cursor", ["zero", "too high", "of a stranger", "behind", "skipped one"])
async def test_a_watcher_killed_and_resumed_with_a_doubtful_cursor_misses_nothing(
    running_gateway: GatewayProcess, buyer: Buyer, payer: AsyncControl, cursor: str
) -> None:
    first = await buyer.buy("echo", {})
    await payer.pay(first["invoice"]["paymentRequest"])
    await buyer.until(first, state="complete")
    async with asyncio.timeout(PATIENCE_S):
        while (await stored_cursor(running_gateway))[0] == 0:
            await asyncio.sleep(0.1)
    index, witness = await stored_cursor(running_gateway)
    while_down = await buyer.buy("echo", {})
    await running_gateway.kill()
    paid = await payer.pay(while_down["invoice"]["paymentRequest"])
    doubtful = {
        "zero": (0, None),
        "too high": (index + 1000, witness),
        "of a stranger": (index, hashlib.sha256(b"stranger").digest()),
        "behind": (max(index - 1, 1), None),
        "skipped one": (index + 1, paid.payment_hash),
    }[cursor]
    await set_cursor(running_gateway, *doubtful)
    await running_gateway.start()
    await buyer.until(while_down, state="complete")
    live = await buyer.buy("echo", {})
    await payer.pay(live["invoice"]["paymentRequest"])
    await buyer.until(live, state="complete")


async def test_a_watcher_of_its_own_beside_a_server(
    unwatched: GatewayProcess, client: Buyer, payer: AsyncControl, regtest: Network, tmp_path: Path
) -> None:
    """It needs the webhook's secret and a macaroon that only reads invoices."""
    settings = {
        **regtest.access.settings(),
        "BOLTWORKS_LND_MACAROON": str(regtest.watcher_macaroon),
        "BOLTWORKS_WEBHOOK_URL": f"{unwatched.url}{PATH}",
        "BOLTWORKS_WEBHOOK_SECRET_FILE": str(unwatched.folder / "data/secrets/webhook_secret"),
    }
    folder = tmp_path / "watcher"
    folder.mkdir()
    async with gateway_process(folder, unwatched.dsn, settings, start=False) as watcher:
        await watcher.start("watch", ready=False)
        async with asyncio.timeout(PATIENCE_S):
            while "watching settlements" not in watcher.log.read_text():
                await asyncio.sleep(0.05)
        job = await paid_job(client, payer, {"cost": 2})
        await client.until(job, state="complete", userChargeSats=2)
        assert await watcher.stop() == 0
