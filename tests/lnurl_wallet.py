"""A wallet's Lightning Address as a test plays it: an LNURL-pay server on loopback (LUD-06, LUD-16)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import bech32
from aiohttp import web
from aiohttp.test_utils import TestServer

METADATA = '[["text/plain","refunds of ann"]]'

MakeInvoice: TypeAlias = Callable[[int, bytes], Awaitable[str]]
"""A BOLT11 invoice over these msat with this description hash."""


@dataclass
class Wallet:
    """Answers as LUD-06 says, but for what a test changes."""

    make_invoice: MakeInvoice
    extra_msat: int = 0
    description_hash: bytes = hashlib.sha256(METADATA.encode()).digest()
    offer: dict[str, Any] = field(default_factory=dict)
    answer: dict[str, Any] = field(default_factory=dict)
    """Of the callback."""
    redirect: str = ""
    down: bool = False
    host: str = ""
    asked: int = 0
    invoices: list[str] = field(default_factory=list)

    async def pay_request(self, _: web.Request) -> web.Response:
        self.asked += 1
        if self.down:
            return web.Response(status=503)
        offer = {
            "tag": "payRequest",
            "callback": f"http://{self.host}/callback",
            "minSendable": 1000,
            "maxSendable": 1_000_000,
            "metadata": METADATA,
        }
        return web.json_response(offer | self.offer)

    async def callback(self, request: web.Request) -> web.Response:
        if self.redirect:
            return web.Response(status=302, headers={"Location": self.redirect})
        amount_msat = int(request.query["amount"]) + self.extra_msat
        self.invoices.append(await self.make_invoice(amount_msat, self.description_hash))
        return web.json_response({"pr": self.invoices[-1], "routes": []} | self.answer)

    @property
    def address(self) -> str:
        return f"ann@{self.host}"

    @property
    def lnurl(self) -> str:
        url = f"http://{self.host}/.well-known/lnurlp/ann"
        return str(bech32.bech32_encode("lnurl", bech32.convertbits(url.encode(), 8, 5))).upper()


@asynccontextmanager
async def serving_wallet(make_invoice: MakeInvoice) -> AsyncIterator[Wallet]:
    wallet = Wallet(make_invoice)
    app = web.Application()
    app.router.add_get("/.well-known/lnurlp/ann", wallet.pay_request)
    app.router.add_get("/callback", wallet.callback)
    async with TestServer(app, host="127.0.0.1") as server:
        wallet.host = f"127.0.0.1:{server.port}"
        yield wallet
