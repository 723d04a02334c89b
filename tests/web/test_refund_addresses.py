"""Refunds to a Lightning Address or LNURL: a wallet's server of the test's own, asked once, paid once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import bech32
import pytest
import pytest_asyncio
from aiohttp import web as http_server
from aiohttp.test_utils import TestServer

from tests.web.conftest import Web

METADATA = '[["text/plain","refunds of ann"]]'


@dataclass
class Wallet:
    """Answers as LUD-06 says, but for what a test changes."""

    web: Web
    extra_msat: int = 0
    description_hash: bytes = hashlib.sha256(METADATA.encode()).digest()
    offer: dict[str, Any] = field(default_factory=dict)
    redirect: str = ""
    down: bool = False
    host: str = ""
    asked: int = 0

    async def pay_request(self, _: http_server.Request) -> http_server.Response:
        self.asked += 1
        if self.down:
            return http_server.Response(status=503)
        offer = {
            "tag": "payRequest",
            "callback": f"http://{self.host}/callback",
            "minSendable": 1000,
            "maxSendable": 1_000_000,
            "metadata": METADATA,
        }
        return http_server.json_response(offer | self.offer)

    async def callback(self, request: http_server.Request) -> http_server.Response:
        if self.redirect:
            return http_server.Response(status=302, headers={"Location": self.redirect})
        amount_msat = int(request.query["amount"]) + self.extra_msat
        invoice = self.web.node.foreign_invoice(amount_msat, description_hash=self.description_hash)
        return http_server.json_response({"pr": invoice, "routes": []})

    @property
    def address(self) -> str:
        return f"ann@{self.host}"

    @property
    def lnurl(self) -> str:
        url = f"http://{self.host}/.well-known/lnurlp/ann"
        return str(bech32.bech32_encode("lnurl", bech32.convertbits(url.encode(), 8, 5))).upper()


@pytest_asyncio.fixture
async def wallet(web: Web) -> AsyncIterator[Wallet]:
    wallet = Wallet(web)
    app = http_server.Application()
    app.router.add_get("/.well-known/lnurlp/ann", wallet.pay_request)
    app.router.add_get("/callback", wallet.callback)
    async with TestServer(app, host="127.0.0.1") as server:
        wallet.host = f"127.0.0.1:{server.port}"
        yield wallet


async def owing(web: Web) -> dict[str, Any]:
    """A finished job of 100 sats that owes 70."""
    job = await web.paid({"cost": 30})
    await web.until(job, state="complete", refundState="pending")
    return job


@pytest.mark.parametrize("form", ["address", "lnurl"])
async def test_an_address_is_paid_once(web: Web, wallet: Wallet, form: str) -> None:
    job = await owing(web)
    answers = await asyncio.gather(*(web.refund(job, getattr(wallet, form)) for _ in range(5)))
    assert 202 in {status for status, _ in answers}
    assert {status for status, _ in answers} <= {202, 409}
    await web.until(job, refundState="paid", refundAmountSats=70)
    assert [sent.amount_msat for sent in web.node.sent] == [70_000]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"extra_msat": 1000}, 422, "destination_unusable"),
        ({"description_hash": bytes(32)}, 422, "destination_unusable"),
        ({"description_hash": b""}, 422, "destination_unusable"),
        ({"offer": {"maxSendable": 69_999}}, 422, "destination_amount_out_of_range"),
        ({"offer": {"padding": "a" * 70_000}}, 422, "destination_unusable"),
        ({"offer": {"callback": "https://10.0.0.1/"}}, 422, "destination_address_forbidden"),
        ({"redirect": "https://169.254.169.254/"}, 422, "destination_address_forbidden"),
        ({"down": True}, 503, "destination_unreachable"),
    ],
)
async def test_a_wrong_answer_has_its_code_and_claims_nothing(
    web: Web, wallet: Wallet, change: dict[str, Any], status: int, code: str
) -> None:
    job = await owing(web)
    for name, value in change.items():
        setattr(wallet, name, value)
    got, problem = await web.refund(job, wallet.address)
    assert (got, problem["code"]) == (status, code)
    assert (await web.job(job))["refundState"] == "pending"
    assert await web.gateway.pool.fetchval("select count(*) from refund_attempts") == 0


async def test_an_address_given_at_the_order_is_asked_when_owed(web: Web, wallet: Wallet) -> None:
    job = await web.buy("echo", {"cost": 30}, refundTo=wallet.address)
    assert wallet.asked == 0
    web.pay(job)
    await web.until(job, state="complete", refundState="paid", refundAmountSats=70)
    assert len(web.node.sent) == 1


async def test_an_address_on_file_that_is_silent_is_asked_again(web: Web, wallet: Wallet) -> None:
    wallet.down = True
    job = await web.paid({"cost": 30}, refundTo=wallet.address)
    async with asyncio.timeout(20):
        while not wallet.asked:
            await asyncio.sleep(0.05)
    assert web.node.sent == []
    wallet.down = False
    async with asyncio.timeout(30):
        while (await web.job(job))["refundState"] != "paid":
            await asyncio.sleep(0.05)
    assert len(web.node.sent) == 1


async def test_an_address_on_file_that_can_never_be_paid_says_why(web: Web, wallet: Wallet) -> None:
    wallet.extra_msat = 1000
    job = await web.paid({"cost": 30}, refundTo=wallet.address)
    async with asyncio.timeout(20):
        while "another amount" not in (await web.job(job)).get("refundProblem", ""):
            await asyncio.sleep(0.05)
    assert web.node.sent == []
