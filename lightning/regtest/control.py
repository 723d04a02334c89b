"""One LND seen from a test's or a person's hand: it pays, invoices, holds, looks up. Synchronous gRPC.

The gateway's own client is `lightning.lnd`; this one stands apart, so that a test of the gateway does not check it
against itself. `AsyncControl` offers the same to coroutines and is bound to no event loop.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

from ledger.money import Msat
from lightning.macaroons import bake_request
from lightning.regtest.envfile import NodeAccess
from lightning.stubs import invoices, invoicesrpc, ln, lnrpc, router, routerrpc

import grpc  # isort: skip  (the stubs set what it reads at import)

T = TypeVar("T")

CALL_TIMEOUT_S: Final = 15.0
PAY_TIMEOUT_S: Final = 60
READY_POLL_S: Final = 0.05
ANCHORS_SATS: Final = 2 * 330
FEE_LIMIT_MSAT: Final = 10_000_000
PARALLEL_CALLS: Final = 64
CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # gRPC takes it for the time that one connecting may take, too
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.enable_http_proxy", 0),
)


class NodeError(Exception):
    """LND refused the call, or did not answer; the text is LND's own. `code` is the gRPC status name."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class NotReady(Exception):
    """The node was not usable in time."""


class PaymentStatus(StrEnum):
    UNKNOWN = "unknown"
    IN_FLIGHT = "in_flight"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


PAYMENT_STATUS: Final = {1: PaymentStatus.IN_FLIGHT, 2: PaymentStatus.SUCCEEDED, 3: PaymentStatus.FAILED}
"""LND's numbers; 4 (INITIATED) is newer than the stubs and counts as in flight."""
FAILURES: Final = {
    0: "",
    1: "no route was found in time",
    2: "there is no route with enough liquidity within the fee limit",
    3: "an error at the sending node",
    4: "the receiver refused: unknown invoice, or a wrong amount",
    5: "the payer's balance is too small",
    6: "it was canceled",
}


@dataclass(frozen=True, slots=True)
class Payment:
    """An outgoing payment as the paying LND tells it."""

    payment_hash: bytes
    status: PaymentStatus
    amount_msat: Msat
    """Without the routing fee."""
    fee_msat: Msat
    preimage: bytes = field(repr=False)
    """32 bytes once it succeeded, else empty."""
    failure: str
    """Why it failed, in words; else empty."""
    payment_index: int

    @property
    def succeeded(self) -> bool:
        return self.status is PaymentStatus.SUCCEEDED


@dataclass(frozen=True, slots=True)
class InvoiceSeen:
    """An invoice as the node that issued it tells it."""

    payment_hash: bytes
    payment_request: str
    memo: str
    amount_msat: Msat
    amount_paid_msat: Msat
    state: str
    """`open`, `settled`, `canceled` or `accepted`."""
    settle_index: int


INVOICE_STATE: Final = {0: "open", 1: "settled", 2: "canceled", 3: "accepted"}


@dataclass(frozen=True, slots=True)
class NodeFacts:
    pubkey: str
    alias: str
    synced_to_chain: bool
    block_height: int
    active_channels: int
    pending_channels: int
    version: str


class NodeControl:
    """Calls on one LND over one channel. Thread-safe. Every call raises NodeError."""

    def __init__(self, access: NodeAccess) -> None:
        self._access = access
        self._metadata = (("macaroon", access.macaroon.read_bytes().hex()),)
        credentials = grpc.ssl_channel_credentials(root_certificates=access.tls_cert.read_bytes())
        self._channel = grpc.secure_channel(access.host, credentials, options=CHANNEL_OPTIONS)
        self._lightning = lnrpc.LightningStub(self._channel)
        self._router = routerrpc.RouterStub(self._channel)
        self._invoices = invoicesrpc.InvoicesStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def facts(self, timeout_s: float = CALL_TIMEOUT_S) -> NodeFacts:
        answer = self._call(self._lightning.GetInfo, ln.GetInfoRequest(), timeout_s)
        return NodeFacts(
            pubkey=answer.identity_pubkey,
            alias=answer.alias,
            synced_to_chain=answer.synced_to_chain,
            block_height=answer.block_height,
            active_channels=answer.num_active_channels,
            pending_channels=answer.num_pending_channels,
            version=answer.version,
        )

    def pay(
        self,
        payment_request: str,
        *,
        amount_msat: int | None = None,
        fee_limit_msat: int = FEE_LIMIT_MSAT,
        timeout_s: int = PAY_TIMEOUT_S,
    ) -> Payment:
        """Follows the payment to its end. `amount_msat` only for an invoice without an amount."""
        request = router.SendPaymentRequest(
            payment_request=payment_request,
            amt_msat=amount_msat or 0,
            fee_limit_msat=fee_limit_msat,
            timeout_seconds=timeout_s,
            no_inflight_updates=True,
        )
        updates = self._stream(self._router.SendPaymentV2, request, timeout_s + CALL_TIMEOUT_S)
        return _payment(updates[-1])

    def overpay(self, payment_request: str, *, amount_msat: int, timeout_s: int = PAY_TIMEOUT_S) -> Payment:
        """Pays more than the invoice asks for, as a careless wallet may (LND accepts up to twice the amount)."""
        wanted = self.decode(payment_request)
        request = router.SendPaymentRequest(
            dest=bytes.fromhex(wanted.destination),
            payment_hash=bytes.fromhex(wanted.payment_hash),
            payment_addr=wanted.payment_addr,
            final_cltv_delta=wanted.cltv_expiry,
            dest_features=list(wanted.features),
            amt_msat=amount_msat,
            fee_limit_msat=FEE_LIMIT_MSAT,
            timeout_seconds=timeout_s,
            no_inflight_updates=True,
        )
        return _payment(self._stream(self._router.SendPaymentV2, request, timeout_s + CALL_TIMEOUT_S)[-1])

    def invoice(
        self,
        amount_sats: int,
        *,
        memo: str = "",
        expiry_s: int = 3600,
        amount_msat: int | None = None,
        preimage: bytes | None = None,
        amp: bool = False,
        description_hash: bytes = b"",
    ) -> str:
        """A BOLT11 string; `amount_sats` of 0 leaves the amount to the payer."""
        amount = {"value_msat": amount_msat} if amount_msat is not None else {"value": amount_sats}
        request = ln.Invoice(
            memo=memo,
            expiry=expiry_s,
            r_preimage=preimage or b"",
            is_amp=amp,
            description_hash=description_hash,
            **amount,
        )
        return str(self._call(self._lightning.AddInvoice, request).payment_request)

    def hold_invoice(
        self, amount_sats: int, *, preimage: bytes | None = None, memo: str = "", expiry_s: int = 3600
    ) -> tuple[str, bytes]:
        """An invoice that keeps its payment in flight until `settle` or `cancel`: (BOLT11, preimage)."""
        preimage = preimage or secrets.token_bytes(32)
        request = invoices.AddHoldInvoiceRequest(
            hash=hashlib.sha256(preimage).digest(), value=amount_sats, memo=memo, expiry=expiry_s
        )
        return str(self._call(self._invoices.AddHoldInvoice, request).payment_request), preimage

    def settle(self, preimage: bytes) -> None:
        """Takes the payment of a hold invoice."""
        self._call(self._invoices.SettleInvoice, invoices.SettleInvoiceMsg(preimage=preimage))

    def cancel(self, payment_hash: bytes) -> None:
        self._call(self._invoices.CancelInvoice, invoices.CancelInvoiceMsg(payment_hash=payment_hash))

    def lookup(self, payment_hash: bytes) -> InvoiceSeen | None:
        """None: this node never issued it."""
        try:
            answer = self._call(self._lightning.LookupInvoice, ln.PaymentHash(r_hash=payment_hash))
        except NodeError as error:
            if error.code == "NOT_FOUND" or "unable to locate invoice" in error.detail:
                return None
            raise
        return _invoice(answer)

    def wait_accepted(self, payment_hash: bytes, timeout_s: float = 20.0) -> InvoiceSeen:
        """Until the payment of a hold invoice has arrived and is held. Raises NotReady."""
        request = invoices.SubscribeSingleInvoiceRequest(r_hash=payment_hash)
        stream = self._invoices.SubscribeSingleInvoice(request, metadata=self._metadata, timeout=timeout_s)
        try:
            for update in stream:
                if INVOICE_STATE.get(update.state) == "accepted":
                    return _invoice(update)
        except grpc.RpcError as error:
            raise NotReady(f"no payment was held within {timeout_s} s ({_failure(error).detail})") from error
        finally:
            stream.cancel()
        raise NotReady("the invoice ended without holding a payment")

    def decode(self, payment_request: str) -> Any:
        """LND's own `PayReq`."""
        return self._call(self._lightning.DecodePayReq, ln.PayReqString(pay_req=payment_request))

    def list_payments(self) -> list[Payment]:
        """All, also failed and pending ones, oldest first. LND reads 0 as a hundred."""
        request = ln.ListPaymentsRequest(include_incomplete=True, max_payments=100_000)
        return [_payment(payment) for payment in self._call(self._lightning.ListPayments, request).payments]

    def payment(self, payment_hash: bytes, timeout_s: float = CALL_TIMEOUT_S) -> Payment | None:
        """Where a payment stands now; None when this node knows of none."""
        request = router.TrackPaymentRequest(payment_hash=payment_hash)
        stream = self._router.TrackPaymentV2(request, metadata=self._metadata, timeout=timeout_s)
        try:
            return _payment(next(iter(stream)))
        except grpc.RpcError as error:
            failure = _failure(error)
            if failure.code == "NOT_FOUND":
                return None
            raise failure from error
        finally:
            stream.cancel()

    def list_invoices(self) -> list[InvoiceSeen]:
        """All, oldest first."""
        request = ln.ListInvoiceRequest(num_max_invoices=100_000)
        return [_invoice(found) for found in self._call(self._lightning.ListInvoices, request).invoices]

    def balance_msat(self) -> Msat:
        """What this node owns in its open channels."""
        answer = self._call(self._lightning.ChannelBalance, ln.ChannelBalanceRequest())
        return Msat(answer.local_balance.msat)

    def settled_balance_msat(self, timeout_s: float = 20.0) -> Msat:
        """The same once no payment is under way in them, which is some 50 ms after one succeeded. Raises NotReady."""
        deadline = time.monotonic() + timeout_s
        while not all(_is_at_rest(channel) for channel in self._channels()):
            if time.monotonic() > deadline:
                raise NotReady(f"payments are still under way after {timeout_s:.0f} s")
            time.sleep(READY_POLL_S / 5)
        return self.balance_msat()

    def _channels(self) -> Sequence[Any]:
        channels: Sequence[Any] = self._call(self._lightning.ListChannels, ln.ListChannelsRequest()).channels
        return channels

    def pending_htlcs(self) -> dict[bytes, bool]:
        """Payments under way in its channels, by payment hash; False: the channel is not active."""
        return {
            bytes(htlc.hash_lock): bool(channel.active)
            for channel in self._channels()
            for htlc in channel.pending_htlcs
        }

    def remote_balance_msat(self) -> Msat:
        """What its peers own in their channels with it: the most it could receive."""
        answer = self._call(self._lightning.ChannelBalance, ln.ChannelBalanceRequest())
        return Msat(answer.remote_balance.msat)

    def wallet_balance_sats(self) -> int:
        """Confirmed coins on the chain."""
        answer = self._call(self._lightning.WalletBalance, ln.WalletBalanceRequest())
        return int(answer.confirmed_balance)

    def new_address(self) -> str:
        return str(self._call(self._lightning.NewAddress, ln.NewAddressRequest(type=0)).address)

    def connect(self, pubkey: str, address: str) -> None:
        """Keeps the connection up from now on; being connected already is fine."""
        request = ln.ConnectPeerRequest(addr=ln.LightningAddress(pubkey=pubkey, host=address), perm=True)
        try:
            self._call(self._lightning.ConnectPeer, request)
        except NodeError as error:
            if "already connected" not in error.detail:
                raise

    def connected_to(self, pubkey: str) -> bool:
        peers = self._call(self._lightning.ListPeers, ln.ListPeersRequest()).peers
        return any(peer.pub_key == pubkey for peer in peers)

    def open_channels(self, pubkey: str, count: int, *, capacity_sats: int, push_sats: int) -> None:
        """All in one transaction, pending until mined."""
        channel = ln.BatchOpenChannel(
            node_pubkey=bytes.fromhex(pubkey), local_funding_amount=capacity_sats, push_sat=push_sats
        )
        request = ln.BatchOpenChannelRequest(channels=[channel] * count, sat_per_vbyte=5, min_confs=1)
        self._call(self._lightning.BatchOpenChannel, request, 30.0)

    def bake(self, uris: Sequence[str]) -> bytes:
        """A macaroon for exactly these RPC URIs."""
        return bytes.fromhex(self._call(self._lightning.BakeMacaroon, bake_request(uris)).macaroon)

    def _call(self, method: Callable[..., Any], request: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        try:
            return method(request, metadata=self._metadata, timeout=timeout_s)
        except grpc.RpcError as error:
            raise _failure(error) from error

    def _stream(self, method: Callable[..., Any], request: Any, timeout_s: float) -> list[Any]:
        try:
            return list(method(request, metadata=self._metadata, timeout=timeout_s))
        except grpc.RpcError as error:
            raise _failure(error) from error


def open_when_ready(access: NodeAccess, still_alive: Callable[[], bool], timeout_s: float) -> NodeControl:
    """Waits until the node has written its credentials, answers, and is synced to the chain. Raises NotReady."""
    deadline = time.monotonic() + timeout_s
    last = "it has not written its certificate and macaroon"
    control: NodeControl | None = None
    while time.monotonic() < deadline:
        if not still_alive():
            raise NotReady("it ended while starting")
        if control is None and access.tls_cert.exists() and access.macaroon.exists():
            control = NodeControl(access)
        if control is not None:
            try:
                if control.facts(timeout_s=2.0).synced_to_chain:
                    return control
                last = "it is not synced to the chain"
            except NodeError as error:
                last = error.detail
                control.close()
                control = None
        time.sleep(READY_POLL_S)
    raise NotReady(f"not usable after {timeout_s:.0f} s: {last}")


class AsyncControl:
    """The calls of `NodeControl` as coroutines, each in a thread: works in any event loop, also across several."""

    def __init__(self, control: Callable[[], NodeControl]) -> None:
        self._control = control
        self._threads = ThreadPoolExecutor(PARALLEL_CALLS, thread_name_prefix="regtest-node")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def pay(
        self,
        payment_request: str,
        *,
        amount_msat: int | None = None,
        fee_limit_msat: int = FEE_LIMIT_MSAT,
        timeout_s: int = PAY_TIMEOUT_S,
    ) -> Payment:
        """See NodeControl.pay."""
        return await self._run(
            self._control().pay,
            payment_request,
            amount_msat=amount_msat,
            fee_limit_msat=fee_limit_msat,
            timeout_s=timeout_s,
        )

    async def overpay(self, payment_request: str, *, amount_msat: int) -> Payment:
        """See NodeControl.overpay."""
        return await self._run(self._control().overpay, payment_request, amount_msat=amount_msat)

    async def invoice(
        self,
        amount_sats: int,
        *,
        memo: str = "",
        expiry_s: int = 3600,
        amount_msat: int | None = None,
        preimage: bytes | None = None,
        amp: bool = False,
        description_hash: bytes = b"",
    ) -> str:
        """See NodeControl.invoice."""
        return await self._run(
            self._control().invoice,
            amount_sats,
            memo=memo,
            expiry_s=expiry_s,
            amount_msat=amount_msat,
            preimage=preimage,
            amp=amp,
            description_hash=description_hash,
        )

    async def hold_invoice(
        self, amount_sats: int, *, preimage: bytes | None = None, memo: str = "", expiry_s: int = 3600
    ) -> tuple[str, bytes]:
        """See NodeControl.hold_invoice."""
        return await self._run(
            self._control().hold_invoice, amount_sats, preimage=preimage, memo=memo, expiry_s=expiry_s
        )

    async def settle(self, preimage: bytes) -> None:
        await self._run(self._control().settle, preimage)

    async def cancel(self, payment_hash: bytes) -> None:
        await self._run(self._control().cancel, payment_hash)

    async def wait_accepted(self, payment_hash: bytes, timeout_s: float = 20.0) -> InvoiceSeen:
        """See NodeControl.wait_accepted."""
        return await self._run(self._control().wait_accepted, payment_hash, timeout_s)

    async def lookup(self, payment_hash: bytes) -> InvoiceSeen | None:
        return await self._run(self._control().lookup, payment_hash)

    async def payment(self, payment_hash: bytes) -> Payment | None:
        return await self._run(self._control().payment, payment_hash)

    async def decode(self, payment_request: str) -> Any:
        return await self._run(self._control().decode, payment_request)

    async def list_payments(self) -> list[Payment]:
        return await self._run(self._control().list_payments)

    async def list_invoices(self) -> list[InvoiceSeen]:
        return await self._run(self._control().list_invoices)

    async def balance_msat(self) -> Msat:
        return await self._run(self._control().balance_msat)

    async def settled_balance_msat(self, timeout_s: float = 20.0) -> Msat:
        """See NodeControl.settled_balance_msat."""
        return await self._run(self._control().settled_balance_msat, timeout_s)

    async def pending_htlcs(self) -> dict[bytes, bool]:
        """See NodeControl.pending_htlcs."""
        return await self._run(self._control().pending_htlcs)

    async def facts(self) -> NodeFacts:
        return await self._run(self._control().facts)

    async def bake(self, uris: Sequence[str]) -> bytes:
        return await self._run(self._control().bake, uris)

    async def _run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _is_at_rest(channel: Any) -> bool:
    """No payment is in the node's own commitment: what both sides own, its fee and two anchors are all that there is.

    Not told by `pending_htlcs` alone, which leaves out a payment that only one side's commitment still has.
    """
    owned_sats = channel.local_balance + channel.remote_balance + channel.commit_fee + ANCHORS_SATS
    return not channel.pending_htlcs and channel.capacity - owned_sats <= 1  # both sides' parts of a sat are cut off


def _payment(payment: Any) -> Payment:
    status = PaymentStatus.IN_FLIGHT if payment.status == 4 else PAYMENT_STATUS.get(payment.status)
    succeeded = status is PaymentStatus.SUCCEEDED
    failure = FAILURES.get(payment.failure_reason, f"reason {payment.failure_reason}")
    return Payment(
        payment_hash=bytes.fromhex(payment.payment_hash),
        status=status or PaymentStatus.UNKNOWN,
        amount_msat=Msat(payment.value_msat),
        fee_msat=Msat(payment.fee_msat),
        preimage=bytes.fromhex(payment.payment_preimage) if succeeded else b"",
        failure=failure if status is PaymentStatus.FAILED else "",
        payment_index=payment.payment_index,
    )


def _invoice(invoice: Any) -> InvoiceSeen:
    return InvoiceSeen(
        payment_hash=invoice.r_hash,
        payment_request=invoice.payment_request,
        memo=invoice.memo,
        amount_msat=Msat(invoice.value_msat),
        amount_paid_msat=Msat(invoice.amt_paid_msat),
        state=INVOICE_STATE.get(invoice.state, f"state {invoice.state}"),
        settle_index=invoice.settle_index,
    )


def _failure(error: grpc.RpcError) -> NodeError:
    return NodeError(error.code().name, error.details() or "no detail")
