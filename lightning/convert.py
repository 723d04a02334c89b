"""LND's protobuf messages to our own values: pure, field by field."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ledger.money import Msat, sats_to_msat
from lightning.bolt11 import expiry_of, network_of
from lightning.outcomes import payment_outcome
from lightning.types import (
    ChannelBalance,
    Invoice,
    InvoiceState,
    Liquidity,
    ListedPayment,
    NodeInfo,
    NodeUnavailable,
    PaymentOutcome,
    PaymentRequest,
)

_INVOICE_STATES = {
    0: InvoiceState.OPEN,
    1: InvoiceState.SETTLED,
    2: InvoiceState.CANCELED,
    3: InvoiceState.ACCEPTED,
}

AMP_BITS = frozenset({30, 31})
"""BOLT9 feature bits of an AMP invoice."""


def node_info(message: Any) -> NodeInfo:
    """From `GetInfoResponse`."""
    return NodeInfo(
        pubkey=message.identity_pubkey,
        alias=message.alias,
        network=message.chains[0].network,
        synced_to_chain=message.synced_to_chain,
        block_height=message.block_height,
        version=message.version,
    )


def invoice(message: Any) -> Invoice:
    """From `lnrpc.Invoice`. What was paid counts only once LND says settled.

    Raises NodeUnavailable for a state newer than this code: nothing is known then.
    """
    state = _INVOICE_STATES.get(message.state)
    if state is None:
        raise NodeUnavailable(f"invoice state {message.state}")
    settled = state is InvoiceState.SETTLED
    created_at = moment(message.creation_date)
    return Invoice(
        payment_hash=message.r_hash,
        payment_request=message.payment_request,
        memo=message.memo,
        amount_msat=Msat(message.value_msat),
        amount_paid_msat=Msat(message.amt_paid_msat if settled else 0),
        state=state,
        created_at=created_at,
        expires_at=created_at + timedelta(seconds=message.expiry),
        add_index=message.add_index,
        settle_index=message.settle_index if settled else 0,
        settled_at=moment(message.settle_date) if settled else None,
    )


def payment_request(message: Any, text: str) -> PaymentRequest:
    """From `PayReq`. Raises BadPaymentRequest for what no calendar or network of ours holds."""
    created_at = moment(message.timestamp)
    return PaymentRequest(
        payment_request=text,
        network=network_of(text),
        destination=message.destination,
        payment_hash=bytes.fromhex(message.payment_hash),
        amount_msat=Msat(message.num_msat),
        created_at=created_at,
        expires_at=expiry_of(created_at, message.expiry),
        min_final_cltv=message.cltv_expiry,
        description=message.description,
        description_hash=bytes.fromhex(message.description_hash),
        is_plain=bool(message.payment_addr) and not AMP_BITS & set(message.features),
    )


def payment(message: Any, expected_hash: bytes) -> PaymentOutcome:
    """From `lnrpc.Payment`; the hash is the one that we meant to pay."""
    return payment_outcome(
        expected_hash=expected_hash,
        status=message.status,
        preimage=bytes.fromhex(message.payment_preimage),
        amount_msat=message.value_msat,
        fee_msat=message.fee_msat,
        payment_index=message.payment_index,
        failure_reason=message.failure_reason,
    )


def listed_payment(message: Any) -> ListedPayment:
    """From `lnrpc.Payment` of the node's own list."""
    payment_hash = bytes.fromhex(message.payment_hash)
    return ListedPayment(payment_hash, payment(message, payment_hash))


def liquidity(message: Any) -> Liquidity:
    """From `ListChannelsResponse`. What a channel holds below its reserve can not be moved."""
    active = [channel for channel in message.channels if channel.active]
    return Liquidity(
        channels=len(message.channels),
        active=len(active),
        outbound_msat=sats_to_msat(sum(max(0, c.local_balance - c.local_constraints.chan_reserve_sat) for c in active)),
        inbound_msat=sats_to_msat(
            sum(max(0, c.remote_balance - c.remote_constraints.chan_reserve_sat) for c in active)
        ),
    )


def channel_balance(message: Any) -> ChannelBalance:
    """From `ChannelBalanceResponse`."""
    return ChannelBalance(Msat(message.local_balance.msat), Msat(message.remote_balance.msat))


def moment(unix_s: int) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)
