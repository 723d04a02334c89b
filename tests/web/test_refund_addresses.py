"""Refunds to a Lightning Address or LNURL: a wallet's server of the test's own, asked once, paid once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from ipaddress import IPv4Interface
from typing import Any

import pytest
import pytest_asyncio

from gateway import outgoing
from gateway.jobs.create import open_at_node, plan_invoice, store_invoices
from gateway.jobs.decisions import Purpose
from gateway.refunds import on_file
from gateway.refunds.decisions import WORDS
from lightning.types import Failed, FailureReason
from tests.lnurl_wallet import Wallet, serving_wallet
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web


@pytest.fixture
def gate() -> asyncio.Event:
    """The wallet gives its invoices while it is set."""
    opened = asyncio.Event()
    opened.set()
    return opened


@pytest_asyncio.fixture
async def wallet(web: Web, gate: asyncio.Event) -> AsyncIterator[Wallet]:
    async def make_invoice(amount_msat: int, description_hash: bytes) -> str:
        await gate.wait()
        return web.node.foreign_invoice(amount_msat, description_hash=description_hash)

    async with serving_wallet(make_invoice) as wallet:
        yield wallet


@pytest.mark.parametrize("form", ["address", "lnurl"])
async def test_an_address_is_paid_once(web: Web, wallet: Wallet, form: str) -> None:
    job = await web.owing()
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
        ({"offer": {"callback": "https://pay.test/?x=\ud800"}}, 422, "destination_unusable"),
        ({"offer": {"callback": "https://pay.test/?x=\0"}}, 422, "destination_unusable"),
        ({"offer": {"metadata": "\ud800"}}, 422, "destination_unusable"),
        ({"offer": {"metadata": "\0"}}, 422, "destination_unusable"),
        ({"offer": {"status": "ERROR", "reason": "bad \ud800"}}, 422, "destination_unusable"),
        ({"offer": {"status": "ERROR", "reason": "bad \0"}}, 422, "destination_unusable"),
        ({"answer": {"status": "ERROR", "reason": "bad \ud800"}}, 422, "destination_unusable"),
        ({"answer": {"pr": "\ud800"}}, 422, "destination_unusable"),
        ({"answer": {"pr": "lnbc1\0"}}, 422, "destination_unusable"),
        ({"down": True}, 503, "destination_unreachable"),
    ],
)
async def test_a_wrong_answer_has_its_code_and_claims_nothing(
    web: Web, wallet: Wallet, change: dict[str, Any], status: int, code: str
) -> None:
    job = await web.owing()
    for name, value in change.items():
        setattr(wallet, name, value)
    got, problem = await web.refund(job, wallet.address)
    assert (got, problem["code"]) == (status, code)
    assert (await web.job(job))["refundState"] == "pending"
    assert await web.gateway.pool.fetchval("select count(*) from refund_attempts") == 0


async def test_a_buyer_comes_while_strangers_nameservers_are_silent(
    web: Web, wallet: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await web.owing()
    with monkeypatch.context() as patch:
        patch.setattr(outgoing, "_LOOKUPS", threading.BoundedSemaphore(1))
        outgoing._LOOKUPS.acquire()
        got, problem = await web.refund(job, wallet.address)
        assert (got, problem["code"]) == (503, "destination_unreachable")
        assert "Your refund waits." in problem["detail"]
        assert (await web.job(job))["refundState"] == "pending"
    assert (await web.refund(job, wallet.address))[0] == 202
    await web.until(job, refundState="paid", refundAmountSats=70)


async def test_an_address_given_at_the_order_is_asked_when_owed(web: Web, wallet: Wallet) -> None:
    job = await web.buy("echo", {"cost": 30}, refundTo=wallet.address)
    assert wallet.asked == 0
    web.pay(job)
    await web.until(job, state="complete", refundState="paid", refundAmountSats=70)
    assert len(web.node.sent) == 1


async def test_an_address_on_file_that_is_silent_is_asked_again(web: Web, wallet: Wallet) -> None:
    wallet.down = True
    job = await web.paid({"cost": 30}, refundTo=wallet.address)
    async with asyncio.timeout(PATIENCE_S):
        while not wallet.asked:
            await asyncio.sleep(0.05)
    assert web.node.sent == []
    wallet.down = False
    async with asyncio.timeout(PATIENCE_S):
        while (await web.job(job))["refundState"] != "paid":
            await asyncio.sleep(0.05)
    assert len(web.node.sent) == 1


async def test_a_fault_at_one_address_holds_up_no_other(
    web: Web, wallet: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = on_file.resolve_destination

    async def falls(node: Any, text: str, *more: Any) -> Any:
        if text == "poison@127.0.0.1":
            raise RuntimeError("a fault of ours")
        return await resolve(node, text, *more)

    monkeypatch.setattr(on_file, "resolve_destination", falls)
    poisoned = await web.paid({"cost": 30}, refundTo="poison@127.0.0.1")
    await web.until(poisoned, state="complete")
    job = await web.paid({"cost": 30}, refundTo=wallet.address)
    await web.until(job, refundState="paid", refundAmountSats=70)
    assert web.gateway.metrics.restarts.labels("refunds on file")._value.get() == 0


async def test_more_that_do_not_answer_than_are_asked_at_once_hold_up_no_other(
    web: Web, wallet: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_file, "AT_ONCE", 2)
    for number in range(5):
        job = await web.paid({"cost": 30}, refundTo=f"n{number}@127.0.0.1:1")
        await web.until(job, state="complete")
    job = await web.paid({"cost": 30}, refundTo=wallet.address)
    await web.until(job, refundState="paid", refundAmountSats=70)


async def test_an_address_on_file_that_can_never_be_paid_says_why(web: Web, wallet: Wallet) -> None:
    wallet.extra_msat = 1000
    job = await web.paid({"cost": 30}, refundTo=wallet.address)
    async with asyncio.timeout(PATIENCE_S):
        while "another amount" not in (await web.job(job)).get("refundProblem", ""):
            await asyncio.sleep(0.05)
    assert web.node.sent == []


async def pay_once_more(web: Web, job: dict[str, Any]) -> None:
    """A second invoice of the job, over 100 sats, settles: all of it is owed back."""
    async with web.gateway.pool.acquire() as conn, conn.transaction():
        planned = plan_invoice(100, "a second invoice of the job", 600)
        await store_invoices(conn, [(str(job["id"]), IPv4Interface("127.0.0.1/32"), planned, Purpose.WORK)])
    await open_at_node(web.gateway.pool, web.node, planned)
    web.node.settle(planned.payment_hash)


async def until_asked(wallet: Wallet, times: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while wallet.asked < times:
            await asyncio.sleep(0.02)


async def test_an_address_stays_on_file_for_later_debts(web: Web, wallet: Wallet) -> None:
    job = await web.paid({"cost": 30}, refundTo=wallet.address)
    paid = await web.until(job, refundState="paid", refundAmountSats=70)
    assert paid["refundTo"] == wallet.address
    await pay_once_more(web, job)
    await web.until(job, refundState="paid", refundAmountSats=170)
    assert [sent.amount_msat for sent in web.node.sent] == [70_000, 100_000]


async def test_what_is_owed_while_an_address_is_asked_is_paid_after(
    web: Web, wallet: Wallet, gate: asyncio.Event
) -> None:
    gate.clear()
    job = await web.paid({"cost": 30}, refundTo=wallet.address)
    await until_asked(wallet, 1)
    await pay_once_more(web, job)
    await web.until(job, refundState="pending", refundAmountSats=170)
    gate.set()
    await web.until(job, refundState="paid", refundAmountSats=170)
    assert sorted(sent.amount_msat for sent in web.node.sent) == [70_000, 100_000]


async def test_an_address_given_by_hand_takes_what_it_was_asked_for(
    web: Web, wallet: Wallet, gate: asyncio.Event
) -> None:
    job = await web.owing()
    gate.clear()
    claiming = asyncio.create_task(web.refund(job, wallet.address))
    await until_asked(wallet, 1)
    await pay_once_more(web, job)
    await web.until(job, refundState="pending", refundAmountSats=170)
    gate.set()
    assert (await claiming)[0] == 202
    await web.until(job, refundState="paid", refundAmountSats=170)
    assert sorted(sent.amount_msat for sent in web.node.sent) == [70_000, 100_000]


async def test_an_invoice_given_while_the_address_is_asked_wins_and_is_the_last_word(
    web: Web, wallet: Wallet, gate: asyncio.Event
) -> None:
    gate.clear()
    job = await web.paid({"cost": 30}, refundTo=wallet.address)
    await until_asked(wallet, 1)
    invoice = web.invoice(70)
    assert (await web.refund(job, invoice))[0] == 202
    gate.set()
    paid = await web.until(job, refundState="paid", refundAmountSats=70)
    assert "refundTo" not in paid
    assert [sent.payment_request for sent in web.node.sent] == [invoice]


async def test_an_address_whose_payment_failed_says_why_and_is_not_asked_again_by_itself(
    web: Web, wallet: Wallet
) -> None:
    web.node.next_outcomes.append(Failed(FailureReason.INCORRECT_PAYMENT_DETAILS, 0))
    job = await web.paid({"cost": 30}, refundTo=wallet.address)
    why = WORDS[FailureReason.INCORRECT_PAYMENT_DETAILS]
    waits = await web.until(job, state="complete", refundState="pending", refundProblem=why)
    assert waits["refundTo"] == wallet.address
    assert (wallet.asked, len(web.node.sent)) == (1, 1)
    key = web.gateway.settings.operator_key.get_secret_value()
    _, listed = await web.call("GET", "/api/operator/refunds", token=key)
    assert listed["items"][0]["refundProblem"] == why
    status, _ = await web.call("POST", f"/api/operator/refunds/{listed['items'][0]['id']}/retry", token=key)
    assert status == 200
    await web.until(job, refundState="paid", refundAmountSats=70)
    assert wallet.asked == 2
