"""L402 on real nodes: a client that knows only the specification pays, is let in, and is paid back what is left."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio

from lightning.regtest.control import AsyncControl
from tests.gateways import GatewayProcess
from tests.l402_client import Client
from tests.loud_model import LoudModelServer, add_to, loud_model_server

CHAT, SESSION = "/v1/chat/completions", "/api/sessions/current"
COST_SATS = 6


def hello(words: str = "say hello to me") -> dict[str, Any]:
    return {"model": "loud", "messages": [{"role": "user", "content": words}]}


@pytest_asyncio.fixture
async def upstream(gateway: GatewayProcess) -> AsyncIterator[LoudModelServer]:
    """The gateway sells a model."""
    async with loud_model_server() as serving:
        assert await gateway.stop() == 0
        add_to(Path(gateway.env["BOLTWORKS_CONFIG"]), serving.url)
        await gateway.start()
        yield serving


@pytest_asyncio.fixture
async def client(http: aiohttp.ClientSession, payer: AsyncControl) -> Client:
    async def pay(invoice: str) -> str:
        return (await payer.pay(invoice)).preimage.hex()

    return Client(http, pay)


async def test_paid_let_in_killed_claimed(
    gateway: GatewayProcess, upstream: LoudModelServer, client: Client, payer: AsyncControl
) -> None:
    before = await payer.settled_balance_msat()
    first = await client.ask("POST", f"{gateway.url}{CHAT}", hello(), **{"X-Deposit-Sats": "500"})
    assert first.status == 200, first.body
    assert first.body["choices"][0]["message"]["content"] == "SAY HELLO TO ME"
    (paid,) = client.paid
    thief = Client(client.http, client.pay, f"{paid.token}:{secrets.token_hex(32)}")
    assert (await thief.send("POST", f"{gateway.url}{CHAT}", hello())).status == 401

    await gateway.kill()
    await gateway.start()
    assert (await client.send("POST", f"{gateway.url}{CHAT}", hello())).status == 200
    rest = 500 - 2 * COST_SATS
    back = {"destination": await payer.invoice(rest, memo="the rest")}
    closed = await client.send("POST", f"{gateway.url}{SESSION}/close", back)
    assert (closed.status, closed.body["refundAmountSats"]) == (200, rest), closed.body
    async with asyncio.timeout(60):
        while (await client.send("GET", f"{gateway.url}{SESSION}")).body["refundState"] != "paid":
            await asyncio.sleep(0.05)
    assert before - await payer.settled_balance_msat() == 2 * COST_SATS * 1000
    over = await client.send("POST", f"{gateway.url}{CHAT}", hello())
    assert over.challenged.token != paid.token


async def test_a_worn_out_token_buys_the_next_one_by_itself(
    gateway: GatewayProcess, upstream: LoudModelServer, client: Client, payer: AsyncControl
) -> None:
    """The answers are as long as they may be, so that each token is soon worth less than a request may cost."""
    before = await payer.settled_balance_msat()
    deposits = []
    for _ in range(3):
        answer = await client.ask("POST", f"{gateway.url}{CHAT}", hello("word " * 12))
        assert answer.status == 200, answer.body
        if len(client.paid) > len(deposits):
            deposits.append((await payer.decode(client.paid[-1].invoice)).num_msat)
    assert len({paid.token for paid in client.paid}) == len(deposits) > 1
    assert len(upstream.asked) == 3
    assert before - await payer.settled_balance_msat() == sum(deposits)


async def test_the_largest_token_can_be_asked_for(
    gateway: GatewayProcess, upstream: LoudModelServer, client: Client, payer: AsyncControl
) -> None:
    answer = await client.send("GET", f"{gateway.url}/v1/models", **{"X-Deposit-Sats": "100000000"})
    assert (await payer.decode(answer.challenged.invoice)).num_satoshis == 100_000_000
