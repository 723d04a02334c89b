"""LND's messages to our values, field by field."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger.money import Msat
from lightning import convert
from lightning.stubs import ln
from lightning.types import BadPaymentRequest, ChannelBalance, InvoiceState, Liquidity, NodeUnavailable

AT = 1_700_000_000
CREATED = datetime.fromtimestamp(AT, UTC)


def message(**fields: Any) -> Any:
    return ln.Invoice(r_hash=b"\x01" * 32, value_msat=5000, creation_date=AT, expiry=600, add_index=4, **fields)


def test_a_settled_invoice_says_what_was_paid_and_when() -> None:
    invoice = convert.invoice(message(state=1, amt_paid_msat=7000, settle_date=AT + 9, settle_index=3))
    assert invoice.state is InvoiceState.SETTLED
    assert (invoice.amount_msat, invoice.amount_paid_msat) == (5000, 7000)
    assert (invoice.settle_index, invoice.settled_at) == (3, CREATED + timedelta(seconds=9))
    assert invoice.expires_at == CREATED + timedelta(seconds=600)


@pytest.mark.parametrize(
    ("number", "state"), [(0, InvoiceState.OPEN), (2, InvoiceState.CANCELED), (3, InvoiceState.ACCEPTED)]
)
def test_nothing_is_paid_before_it_is_settled(number: int, state: InvoiceState) -> None:
    invoice = convert.invoice(message(state=number, amt_paid_msat=5000))
    assert invoice.state is state
    assert (invoice.amount_paid_msat, invoice.settle_index, invoice.settled_at) == (0, 0, None)


def test_a_state_newer_than_this_code_says_nothing() -> None:
    with pytest.raises(NodeUnavailable):
        convert.invoice(message(state=9))


def test_channel_balance_is_local_then_remote() -> None:
    answer = ln.ChannelBalanceResponse(local_balance={"msat": 11}, remote_balance={"msat": 22})
    assert convert.channel_balance(answer) == ChannelBalance(local_msat=Msat(11), remote_msat=Msat(22))


def channel(local: int, remote: int, *, active: bool = True) -> Any:
    reserve = ln.ChannelConstraints(chan_reserve_sat=10)
    return ln.Channel(
        active=active,
        local_balance=local,
        remote_balance=remote,
        local_constraints=reserve,
        remote_constraints=reserve,
    )


@pytest.mark.parametrize(
    ("channels", "liquidity"),
    [
        ((), (0, 0, 0, 0)),
        ((channel(100, 50),), (1, 1, 90_000, 40_000)),
        ((channel(100, 50), channel(1000, 1000, active=False)), (2, 1, 90_000, 40_000)),
        ((channel(5, 50), channel(11, 10)), (2, 2, 1_000, 40_000)),  # below its reserve, a side can move nothing
    ],
)
def test_liquidity_is_what_connected_channels_can_move(channels: tuple[Any, ...], liquidity: tuple[int, ...]) -> None:
    answer = convert.liquidity(ln.ListChannelsResponse(channels=channels))
    assert answer == Liquidity(*liquidity)


def test_an_absurd_expiry_of_a_stranger_is_a_bad_invoice() -> None:
    answer = ln.PayReq(payment_hash="01" * 32, timestamp=AT, expiry=2**62)
    with pytest.raises(BadPaymentRequest):
        convert.payment_request(answer, "lnbcrt1qqq")
