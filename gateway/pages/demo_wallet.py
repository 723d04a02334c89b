"""A wallet to try the gateway with: the payer's node of a regtest network. Off unless `demo_wallet` is set."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator

from aiohttp import web

from gateway import problems
from gateway.context import GATEWAY, Gateway
from gateway.problems import Problem, ProblemType
from gateway.settings import Settings
from ledger.money import Msat, sats_to_msat
from lightning.lnd import LndNode
from lightning.node import Node
from lightning.types import Failed, NodeUnavailable, NotFound

log = logging.getLogger(__name__)

DEMO_WALLET_FAILED = ProblemType("demo_wallet_failed", 409, "The demo wallet could not pay")

PAY_TIMEOUT_S = 20
INVOICE_EXPIRY_S = 600
FEE_LIMIT_SATS = 10
CLTV_LIMIT = 432


class DemoWallet:
    """`node` is the payer's; None: there is no wallet. It never appears where the gateway's node is not on regtest."""

    def __init__(self, gateway: Gateway, node: Node | None = None) -> None:
        self.node = node
        self._gateway = gateway
        self._on_regtest: bool | None = None

    async def usable(self) -> bool:
        """Asks the gateway's node for its network until it has answered once."""
        if self.node is None or not self._gateway.settings.demo_wallet:
            return False
        if self._on_regtest is None:
            try:
                self._on_regtest = (await self._gateway.node.get_info()).network == "regtest"
            except NodeUnavailable:
                return False
        return self._on_regtest

    async def pay(self, payment_request: str) -> None:
        """Pay an invoice with its own amount. Raises Problem; a payment still under way is no refusal."""
        outcome = await (await self._require()).send_payment(
            payment_request,
            amount_msat=None,
            fee_limit_msat=sats_to_msat(FEE_LIMIT_SATS),
            cltv_limit=CLTV_LIMIT,
            timeout_s=PAY_TIMEOUT_S,
            deadline_s=PAY_TIMEOUT_S + 5,
        )
        if isinstance(outcome, Failed | NotFound):
            reason = outcome.reason.value.replace("_", " ") if isinstance(outcome, Failed) else "not sent"
            raise Problem(DEMO_WALLET_FAILED, f"Its node says: {reason}.")

    async def invoice(self, amount_sats: int) -> str:
        """A fresh BOLT11 invoice of the wallet. Raises Problem, NodeUnavailable."""
        node = await self._require()
        amount: Msat = sats_to_msat(amount_sats)
        made = await node.add_invoice(secrets.token_bytes(32), amount, "boltworks demo refund", INVOICE_EXPIRY_S)
        return made.payment_request

    async def _require(self) -> Node:
        if self.node is None or not await self.usable():
            raise Problem(problems.NOT_AVAILABLE, "The demo wallet is for regtest only.")
        return self.node


DEMO_WALLET: web.AppKey[DemoWallet] = web.AppKey("demo_wallet", DemoWallet)


def set_up(app: web.Application) -> None:
    app[DEMO_WALLET] = DemoWallet(app[GATEWAY])
    app.cleanup_ctx.append(_open_node)


async def _open_node(app: web.Application) -> AsyncIterator[None]:
    """The channel to the payer's node lives as long as the application."""
    node = _node(app[GATEWAY].settings)
    if node is None:
        yield
        return
    try:
        await node.__aenter__()
    except OSError as error:
        log.warning("the demo wallet is off: %s", error)
        yield
        return
    app[DEMO_WALLET].node = node
    try:
        yield
    finally:
        app[DEMO_WALLET].node = None
        await node.__aexit__()


def _node(settings: Settings) -> LndNode | None:
    host, cert = settings.regtest_payer_lnd_host, settings.regtest_payer_lnd_tls_cert
    macaroon = settings.regtest_payer_lnd_macaroon
    if not settings.demo_wallet or host is None or cert is None or macaroon is None:
        return None
    return LndNode(host, cert, macaroon)
