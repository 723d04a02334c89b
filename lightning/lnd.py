"""LND as a `Node`: each method is one RPC (or two), its errors translated here once and for all.

LND answers most refusals with gRPC UNKNOWN, and also that it is still starting. What UNKNOWN means is asked of
LND (a look-up, or `GetState`), never read out of its text.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

from ledger.money import Msat
from lightning import bolt11, convert
from lightning.channel import LndChannel, RpcFault
from lightning.stubs import invoices, ln, router, state
from lightning.types import (
    BadPaymentRequest,
    CancelOutcome,
    ChannelBalance,
    Failed,
    Invoice,
    InvoiceConflict,
    InvoiceState,
    Liquidity,
    ListedPayment,
    NodeInfo,
    NodeRefused,
    NodeUnavailable,
    NotFound,
    PaymentOutcome,
    PaymentRequest,
    Settled,
    Unknown,
)

UNARY_TIMEOUT_S = 10.0
IDENTITY_S = 2.0
"""So long the node's key and network are taken for known, unless a call or a stream breaks. GetInfo is dear to LND."""
DEADLINE_GRACE_S = 5.0
NO_ADDITION = 1 << 62
"""An `add_index` that no node reaches: a subscriber is told of invoices made after it, and we want to hear of none.

Not the largest number: LND's SQL store adds one to it.
"""
PAGE_SIZE = 1000
RPC_ACTIVE = 3
SERVER_ACTIVE = 4

_NOTHING_KNOWN = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL"}
)
"""Codes of the transport: the call may or may not have taken effect."""

_CANCEL_OUTCOMES = {
    InvoiceState.OPEN: CancelOutcome.STILL_OPEN,
    InvoiceState.ACCEPTED: CancelOutcome.STILL_OPEN,
    InvoiceState.CANCELED: CancelOutcome.CANCELED,
    InvoiceState.SETTLED: CancelOutcome.SETTLED,
}


class LndNode:
    """The real `Node`. Open it as an async context manager, once, and share it: it holds the one channel.

    host: `name:port` of LND's gRPC. tls_cert: LND's own `tls.cert`, the only root that is trusted. Both files
    are read again when a call is turned down and they have changed. Entering raises OSError if one cannot be
    read; it does not wait for the node.
    """

    def __init__(self, host: str, tls_cert: Path, macaroon: Path, *, unary_timeout_s: float = UNARY_TIMEOUT_S) -> None:
        self._channel = LndChannel(host, tls_cert, macaroon)
        self._timeout_s = unary_timeout_s
        self._identity: tuple[NodeInfo, float] | None = None
        self._one_asks = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._channel.__aexit__(*exc)

    async def get_info(self) -> NodeInfo:
        return convert.node_info(await self._ask(self._channel.stubs.lightning.GetInfo, ln.GetInfoRequest()))

    async def identity(self) -> NodeInfo:
        async with self._one_asks:
            known, now = self._identity, time.monotonic()
            if known is None or now - known[1] >= IDENTITY_S:
                known = self._identity = (await self.get_info(), now)
        return known[0]

    async def channel_balance(self) -> ChannelBalance:
        method = self._channel.stubs.lightning.ChannelBalance
        return convert.channel_balance(await self._ask(method, ln.ChannelBalanceRequest()))

    async def liquidity(self) -> Liquidity:
        method = self._channel.stubs.lightning.ListChannels
        return convert.liquidity(await self._ask(method, ln.ListChannelsRequest()))

    async def add_invoice(self, preimage: bytes, amount_msat: Msat, memo: str, expiry_s: int) -> Invoice:
        """As `Node.add_invoice`. Raises ValueError for 0 msat or 0 seconds: LND reads them as a default."""
        if len(preimage) != 32 or amount_msat <= 0 or expiry_s <= 0:
            raise ValueError("an invoice needs 32 bytes of preimage, an amount and an expiry above zero")
        request = ln.Invoice(r_preimage=preimage, value_msat=amount_msat, memo=memo, expiry=expiry_s)
        try:
            return await self._add(request)
        except RpcFault as fault:
            _raise_if_nothing_known(fault)
        if (known := await self.lookup_invoice(hashlib.sha256(preimage).digest())) is None:
            # LND was still starting a moment ago, or it means it: the second answer counts.
            try:
                return await self._add(request)
            except RpcFault as fault:
                _raise_if_nothing_known(fault)
                raise NodeRefused(fault.code, fault.detail) from None
        if known.amount_msat != amount_msat:
            raise InvoiceConflict(
                f"{known.payment_hash.hex()} is known with {known.amount_msat} msat, not {amount_msat}"
            )
        return known

    async def lookup_invoice(self, payment_hash: bytes) -> Invoice | None:
        method = self._channel.stubs.lightning.LookupInvoice
        try:
            message = await self._call(method, ln.PaymentHash(r_hash=payment_hash))
        except RpcFault as fault:
            if fault.code == "NOT_FOUND":
                return None
            raise _unavailable(fault) from None
        return convert.invoice(message)

    async def cancel_invoice(self, payment_hash: bytes) -> CancelOutcome:
        method = self._channel.stubs.invoices.CancelInvoice
        try:
            await self._call(method, invoices.CancelInvoiceMsg(payment_hash=payment_hash))
        except RpcFault as fault:
            _raise_if_nothing_known(fault)
        invoice = await self.lookup_invoice(payment_hash)
        return CancelOutcome.NOT_FOUND if invoice is None else _CANCEL_OUTCOMES[invoice.state]

    async def subscribe_settlements(self, settle_index: int) -> AsyncGenerator[Invoice, None]:
        """As `InvoiceReader.subscribe_settlements`. A dead node is noticed at once, a frozen one in 20 s."""
        method = self._channel.stubs.lightning.SubscribeInvoices
        request = ln.InvoiceSubscription(add_index=NO_ADDITION, settle_index=settle_index)
        try:
            async with aclosing(self._channel.stream(method, request, timeout_s=None)) as messages:
                async for message in messages:
                    invoice = convert.invoice(message)
                    if invoice.state is InvoiceState.SETTLED:
                        yield invoice
        except RpcFault as fault:
            self._identity = None
            raise _unavailable(fault) from None
        raise NodeUnavailable("LND ended the settlement stream")

    async def list_invoices(self, *, after_add_index: int = 0) -> AsyncGenerator[Invoice, None]:
        method = self._channel.stubs.lightning.ListInvoices
        offset, more = after_add_index, True
        while more:
            request = ln.ListInvoiceRequest(index_offset=offset, num_max_invoices=PAGE_SIZE)
            page = await self._ask(method, request)
            for message in page.invoices:
                yield convert.invoice(message)
            offset, more = page.last_index_offset, len(page.invoices) == PAGE_SIZE

    async def decode(self, payment_request: str) -> PaymentRequest:
        bolt11.read(payment_request)
        method = self._channel.stubs.lightning.DecodePayReq
        try:
            message = await self._call(method, ln.PayReqString(pay_req=payment_request))
        except RpcFault as fault:
            _raise_if_nothing_known(fault)
            await self._require_started()
            raise BadPaymentRequest(fault.detail) from None
        return convert.payment_request(message, payment_request)

    async def send_payment(
        self,
        payment_request: str,
        *,
        amount_msat: Msat | None,
        fee_limit_msat: Msat,
        cltv_limit: int,
        timeout_s: int,
        deadline_s: float,
    ) -> PaymentOutcome:
        try:
            payment_hash = bolt11.read(payment_request).payment_hash
        except BadPaymentRequest as error:
            return Unknown(f"nothing was sent: {error}")
        request = router.SendPaymentRequest(
            payment_request=payment_request,
            amt_msat=amount_msat or 0,
            fee_limit_msat=fee_limit_msat,
            cltv_limit=cltv_limit,
            timeout_seconds=timeout_s,
        )
        return await self._follow(self._channel.stubs.router.SendPaymentV2, request, payment_hash, deadline_s)

    async def track_payment(self, payment_hash: bytes, *, deadline_s: float) -> PaymentOutcome:
        request = router.TrackPaymentRequest(payment_hash=payment_hash)
        method = self._channel.stubs.router.TrackPaymentV2
        return await self._follow(method, request, payment_hash, deadline_s, not_found=NotFound())

    async def highest_payment_index(self) -> int:
        method = self._channel.stubs.lightning.ListPayments
        request = ln.ListPaymentsRequest(reversed=True, max_payments=1, include_incomplete=True)
        page = await self._ask(method, request)
        return max((payment.payment_index for payment in page.payments), default=0)

    async def list_payments(self) -> AsyncGenerator[ListedPayment, None]:
        method = self._channel.stubs.lightning.ListPayments
        offset, more = 0, True
        while more:
            request = ln.ListPaymentsRequest(index_offset=offset, max_payments=PAGE_SIZE, include_incomplete=True)
            page = await self._ask(method, request)
            for message in page.payments:
                yield convert.listed_payment(message)
            offset, more = page.last_index_offset, len(page.payments) == PAGE_SIZE

    async def _add(self, request: Any) -> Invoice:
        """What `AddInvoice` answers lacks times; when it was made is read from the invoice that LND has signed."""
        answer = await self._call(self._channel.stubs.lightning.AddInvoice, request)
        created_at = bolt11.created_at_of(answer.payment_request)
        return Invoice(
            payment_hash=answer.r_hash,
            payment_request=answer.payment_request,
            memo=request.memo,
            amount_msat=Msat(request.value_msat),
            amount_paid_msat=Msat(0),
            state=InvoiceState.OPEN,
            created_at=created_at,
            expires_at=bolt11.expiry_of(created_at, request.expiry),
            add_index=answer.add_index,
            settle_index=0,
            settled_at=None,
        )

    async def _follow(
        self,
        method: Any,
        request: Any,
        payment_hash: bytes,
        deadline_s: float,
        *,
        not_found: NotFound | None = None,
    ) -> PaymentOutcome:
        """The first terminal word of a payment's stream. Leaving the stream does not stop the payment.

        The deadline is kept here; the one given to LND ends later, or the two would race to name the error, and not
        later than one and a half times as long: a refund's lease lasts twice as long.
        """
        last: PaymentOutcome = Unknown("no update came")
        stream = self._channel.stream(method, request, timeout_s=deadline_s + min(DEADLINE_GRACE_S, deadline_s / 2))
        try:
            async with asyncio.timeout(deadline_s), aclosing(stream) as updates:
                async for message in updates:
                    last = convert.payment(message, payment_hash)
                    if isinstance(last, Settled | Failed):
                        return last
        except TimeoutError:
            return last
        except RpcFault as fault:
            if fault.code == "NOT_FOUND" and not_found is not None:
                return not_found
            self._identity = None
            return Unknown(str(fault))
        except NodeUnavailable as error:
            return Unknown(str(error))
        return last

    async def _require_started(self) -> None:
        answer = await self._ask(self._channel.stubs.state.GetState, state.GetStateRequest())
        if answer.state not in (RPC_ACTIVE, SERVER_ACTIVE):
            raise NodeUnavailable("LND is still starting")

    async def _ask(self, method: Any, request: Any) -> Any:
        """A read: whatever goes wrong with it, nothing is known."""
        try:
            return await self._call(method, request)
        except RpcFault as fault:
            raise _unavailable(fault) from None

    async def _call(self, method: Any, request: Any) -> Any:
        try:
            return await self._channel.call(method, request, timeout_s=self._timeout_s)
        except RpcFault as fault:
            if fault.code in _NOTHING_KNOWN:
                self._identity = None
            raise


def _raise_if_nothing_known(fault: RpcFault) -> None:
    if fault.code in _NOTHING_KNOWN:
        raise _unavailable(fault) from None


def _unavailable(fault: RpcFault) -> NodeUnavailable:
    return NodeUnavailable(str(fault))
