"""LNURL-pay and Lightning Address: what is asked, and what of the answers is taken."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import bech32
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.outgoing import BadAnswer
from gateway.problems import Problem
from gateway.refunds.lnurl import (
    PayOffer,
    ask_invoice,
    callback_url,
    pay_url,
    read_offer,
    refuse_other_invoice,
    refuse_out_of_range,
)
from ledger.money import Msat
from lightning.types import PaymentRequest

LUD01 = (
    "LNURL1DP68GURN8GHJ7UM9WFMXJCM99E3K7MF0V9CXJ0M385EKVCENXC6R2C35XVUKXEFCV5MKVV34X5EKZD3EV56NYD3HXQURZEPEXEJXXEPN"
    "XSCRVWFNV9NXZCN9XQ6XYEFHVGCXXCMYXYMNSERXFQ5FNS"
)
LUD01_URL = "https://service.com/api?q=3fc3645b439ce8e7f2553a69e5267081d96dcd340693afabe04be7b0ccd178df"
OFFER = PayOffer("https://pay.test/cb?x=1&amount=9", 1_500, 5_999, '[["text/plain","a refund"]]')
ANSWER = {
    "tag": "payRequest",
    "callback": OFFER.callback,
    "minSendable": 1_500,
    "maxSendable": 5_999,
    "metadata": OFFER.metadata,
}


def encoded(url: str, hrp: str = "lnurl") -> str:
    return str(bech32.bech32_encode(hrp, bech32.convertbits(url.encode(), 8, 5)))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (LUD01, LUD01_URL),
        (LUD01.lower(), LUD01_URL),
        ("lightning:" + LUD01, LUD01_URL),
        ("ann@pay.test", "https://pay.test/.well-known/lnurlp/ann"),
        (" Ann@Pay.test ", "https://pay.test/.well-known/lnurlp/ann"),
        ("ann@regtest:81", "http://regtest:81/.well-known/lnurlp/ann"),
        (encoded("http://regtest:81/p"), "http://regtest:81/p"),
        ("lnbcrt1abc", None),
        ("ann@", None),
        ("a/../b@pay.test", None),
    ],
)
def test_what_is_asked(text: str, url: str | None) -> None:
    assert pay_url(text, ("regtest:81",)) == url


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (LUD01[:-1] + "Q", "destination_invalid"),
        ("lnurl1", "destination_invalid"),
        ("lnurl1" + "q" * 3000, "destination_invalid"),
        (encoded("http://pay.test/"), "destination_address_forbidden"),
        (encoded("file:///etc/passwd"), "destination_address_forbidden"),
        ("ann@pay.test:99999", "destination_address_forbidden"),
    ],
)
def test_wrong_texts(text: str, code: str) -> None:
    with pytest.raises(Problem) as caught:
        pay_url(text, ())
    assert caught.value.type.code == code


def test_an_offer_is_read() -> None:
    assert read_offer(ANSWER) == OFFER


@pytest.mark.parametrize(
    "change",
    [
        {"tag": "withdrawRequest"},
        {"callback": 1},
        {"callback": "https://[::1/"},
        {"metadata": None},
        {"minSendable": "1"},
        {"minSendable": True},
        {"minSendable": 6_000},
        {"minSendable": 0},
        {"maxSendable": 5.5},
        {"status": "ERROR", "reason": "gone"},
    ],
)
def test_an_offer_that_is_none(change: dict[str, Any]) -> None:
    with pytest.raises(BadAnswer):
        read_offer(ANSWER | change)


def test_the_callback_is_asked_for_our_amount() -> None:
    assert callback_url(OFFER, 2_000) == "https://pay.test/cb?x=1&amount=2000"


@pytest.mark.parametrize(("amount_msat", "fits"), [(1_000, False), (2_000, True), (5_000, True), (6_000, False)])
def test_the_range(amount_msat: int, fits: bool) -> None:
    if fits:
        refuse_out_of_range(OFFER, amount_msat)
        return
    with pytest.raises(Problem) as caught:
        refuse_out_of_range(OFFER, amount_msat)
    assert "It takes 2 to 5 sats" in caught.value.detail


def invoice(amount_msat: int, description_hash: bytes) -> PaymentRequest:
    now = datetime.now(UTC)
    return PaymentRequest(
        "ln", "regtest", "03", bytes(32), Msat(amount_msat), now, now, 80, "", description_hash=description_hash
    )


def test_the_invoice_is_for_what_was_asked() -> None:
    right = hashlib.sha256(OFFER.metadata.encode()).digest()
    refuse_other_invoice(OFFER, invoice(2_000, right), 2_000)
    for wrong in (invoice(2_001, right), invoice(0, right), invoice(2_000, bytes(32)), invoice(2_000, b"")):
        with pytest.raises(Problem) as caught:
            refuse_other_invoice(OFFER, wrong, 2_000)
        assert caught.value.type.code == "destination_unusable"


@pytest_asyncio.fixture
async def wallet() -> AsyncIterator[TestServer]:
    async def offer(request: web.Request) -> web.Response:
        callback = request.query.get("callback", f"http://{request.host}/invoice")
        return web.json_response(ANSWER | {"callback": callback})

    async def invoice_for(request: web.Request) -> web.Response:
        return web.json_response({"pr": "invoice over " + request.query["amount"]})

    async def down(_: web.Request) -> web.Response:
        return web.Response(status=503)

    app = web.Application()
    app.router.add_get("/offer", offer)
    app.router.add_get("/invoice", invoice_for)
    app.router.add_get("/down", down)
    async with TestServer(app, host="127.0.0.1") as server:
        yield server


async def test_a_wallet_is_asked(wallet: TestServer) -> None:
    host = f"127.0.0.1:{wallet.port}"
    _, text = await ask_invoice(f"http://{host}/offer", 2_000, (host,))
    assert text == "invoice over 2000"


@pytest.mark.parametrize(
    ("path", "amount_msat", "code"),
    [
        ("/offer", 9_000, "destination_amount_out_of_range"),
        ("/offer?callback=https://10.0.0.1/", 2_000, "destination_address_forbidden"),
        ("/missing", 2_000, "destination_unusable"),
        ("/down", 2_000, "destination_unreachable"),
    ],
)
async def test_a_wallet_that_can_not_be_paid(wallet: TestServer, path: str, amount_msat: int, code: str) -> None:
    host = f"127.0.0.1:{wallet.port}"
    with pytest.raises(Problem) as caught:
        await ask_invoice(f"http://{host}{path}", amount_msat, (host,))
    assert caught.value.type.code == code
