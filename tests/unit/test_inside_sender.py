"""The webhook of its own process is told as one over HTTP is: signed, refused and acknowledged alike."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from gateway import problems
from gateway.problems import Problem
from gateway.settlement.deliver import Delivered, InsideSender, Refused
from gateway.settlement.event import SettledEvent, is_signed, settled_event
from gateway.settlement.heard import Heard
from ledger.money import Msat
from lightning.types import Invoice, InvoiceState, NodeUnavailable

SECRET = "whsec_" + "c2VjcmV0IG9mIGEgdGVzdCwgMzIgYnl0ZXMgbG9uZyEh"


def invoice(state: InvoiceState = InvoiceState.SETTLED) -> Invoice:
    now, settled = datetime.now(UTC), state is InvoiceState.SETTLED
    paid_at = now if settled else None
    return Invoice(b"h" * 32, "lnbcrt1", "", Msat(1000), Msat(1000), state, now, now, 1, int(settled), paid_at)


def event() -> SettledEvent:
    return settled_event(invoice())


def sender(says: BaseException | None) -> InsideSender:
    async def receive(_raw: bytes, _headers: Mapping[str, str]) -> None:
        if says is not None:
            raise says

    return InsideSender(receive, SECRET, asyncio.Semaphore(1))


async def test_what_it_hands_over_is_signed() -> None:
    got: list[tuple[bytes, Mapping[str, str]]] = []

    async def receive(raw: bytes, headers: Mapping[str, str]) -> None:
        got.append((raw, headers))

    assert await InsideSender(receive, SECRET, asyncio.Semaphore(1)).once(event()) == Delivered()
    ((raw, headers),) = got
    assert is_signed(SECRET, raw, headers)
    assert not is_signed(SECRET, raw + b" ", headers)


@pytest.mark.parametrize(
    ("says", "outcome"),
    [
        (None, Delivered()),
        (Problem(problems.UNKNOWN_INVOICE), Delivered()),
        (Problem(problems.NOT_SETTLED), Refused("409 not_settled")),
        (Problem(problems.WEBHOOK_SIGNATURE), Refused("401 webhook_signature_invalid")),
        (NodeUnavailable("away"), Refused("NodeUnavailable: away")),
        (ConnectionError("the database"), Refused("ConnectionError: the database")),
        (ValueError("a fault"), Refused("ValueError: a fault")),
    ],
)
async def test_only_what_is_booked_or_nobodys_is_acknowledged(
    says: BaseException | None, outcome: Delivered | Refused
) -> None:
    assert await sender(says).once(event()) == outcome


async def test_one_that_hangs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.settlement.deliver.TIMEOUT_S", 0.01)

    async def receive(_raw: bytes, _headers: Mapping[str, str]) -> None:
        await asyncio.Event().wait()

    assert isinstance(await InsideSender(receive, SECRET, asyncio.Semaphore(1)).once(event()), Refused)


def test_only_what_is_final_is_taken_for_heard() -> None:
    heard = Heard()
    for state in InvoiceState:
        heard.keep(invoice(state))
        assert (heard.of(b"h" * 32) is not None) == (state is InvoiceState.SETTLED)
        heard.forget(b"h" * 32)
    assert heard.of(b"h" * 32) is None
