"""The books against a node that says what a test wants; the operator's word on a frozen refund; restored backups."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from gateway.execution.queue import enqueue
from gateway.operator.log import COMMAND
from gateway.operator.refunds import decide_frozen
from gateway.problems import Problem
from gateway.reconcile.accept import AcceptError, WasNotPaid, WasPaid, accept
from gateway.reconcile.report import Report
from gateway.reconcile.run import reconcile
from gateway.reconcile.strangers import Strangers
from ledger.database import Pool
from ledger.money import Msat
from lightning import bolt11
from lightning.fake import FakeNode
from lightning.types import InFlight, Invoice, NodeUnavailable, Settled, Unknown
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web


async def report(web: Web) -> Report:
    return await reconcile(web.gateway.pool, web.node, enqueue, web.gateway.rules, web.gateway.metrics)


async def owing(web: Web) -> dict[str, object]:
    job = await web.paid({"cost": 30})
    await web.until(job, state="complete", refundState="pending", refundAmountSats=70)
    return job


async def until_attempt(web: Web, condition: str) -> str:
    """The id of the attempt."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := await web.gateway.pool.fetchval(f"select id from refund_attempts where {condition}")):  # noqa: S608
            await asyncio.sleep(0.05)
    return str(found)


async def frozen(web: Web) -> tuple[dict[str, object], str, str]:
    """A job whose refund froze, because the node forgot its payment: job, attempt, invoice."""
    job = await owing(web)
    web.node.next_outcomes.append(InFlight())
    invoice = web.invoice(70)
    assert (await web.refund(job, invoice))[0] == 202
    await until_attempt(web, "update_seen")
    web.node.forget_payments()
    return job, await until_attempt(web, "state = 'frozen'"), invoice


async def test_a_paid_and_refunded_job_differs_in_nothing(web: Web) -> None:
    job = await owing(web)
    await web.refund(job, web.invoice(70))
    await web.until(job, refundState="paid")
    found = await report(web)
    assert found.is_clean
    assert found.to_dict()["differences"] == []
    assert (found.to_dict()["nodeMsat"], found.to_dict()["bookMsat"]) == (30_000, 30_000)


async def test_an_unreachable_node_is_unknown_and_never_zero(web: Web) -> None:
    await web.until(await web.paid({"cost": 30}), state="complete")
    web.node.go_unavailable()
    found = await report(web)
    web.node.come_back()
    said = found.to_dict()
    assert (said["known"], said["clean"]) == (False, False)
    assert said["whyUnknown"]
    assert [said[name] for name in ("nodeMsat", "settledMsat", "paidOutMsat", "feesMsat", "differenceMsat")] == [
        None
    ] * 5
    assert said["bookMsat"] == 100_000


async def test_a_settlement_that_nobody_booked_is_booked(web: Web) -> None:
    """The watcher is deaf and the sweep finds nothing; the reconciliation books it as any settlement."""
    job = await web.buy("echo", {"cost": 4})
    # Called canceled in the books, the invoice is looked up by no sweep; and nobody tells of its payment.
    await web.gateway.pool.execute("update invoices set state = 'canceled'")
    web.node._up = False
    web.pay(job)
    web.node._up = True
    found = await report(web)
    # The gateway's own first reconciliation, at its start, may be the quicker one; nobody else can book it.
    assert {finding.kind for finding in found.repaired} <= {"settled_unbooked"}
    assert found.is_clean
    await web.until(job, state="complete", userChargeSats=4)
    assert (await report(web)).repaired == []


async def test_what_has_no_clear_rule_is_reported_per_hash(web: Web) -> None:
    job = await owing(web)
    refund_invoice = web.invoice(70)
    await web.refund(job, refund_invoice)
    await web.until(job, refundState="paid")
    received = bytes.fromhex(job["invoice"]["paymentHash"])  # type: ignore[index]
    sent = bolt11.read(refund_invoice).payment_hash
    seen, paid = web.node._invoices[received], web.node._payments[sent]
    assert isinstance(paid, Settled)

    web.node._invoices[received] = replace(seen, amount_paid_msat=Msat(90_000))
    web.node._payments[sent] = replace(paid, fee_msat=Msat(3))
    found = await report(web)
    assert {(finding.kind.value, finding.payment_hash) for finding in found.findings} == {
        ("amount_received_differs", received),
        ("amount_paid_differs", sent),
    }
    assert found.totals is not None
    assert found.totals.difference_msat == -10_003

    web.node.forget_invoice(received)
    web.node.forget_payments()
    assert {(finding.kind.value, finding.payment_hash) for finding in (await report(web)).findings} == {
        ("booked_not_settled", received),
        ("paid_not_at_node", sent),
    }


async def test_accepted_as_paid_only_with_the_proof(web: Web) -> None:
    job, attempt, invoice = await frozen(web)
    pool = web.gateway.pool
    with pytest.raises(AcceptError, match="proves nothing"):
        await accept(pool, attempt, WasPaid(os.urandom(32), 5))
    assert (await web.job(job))["refundState"] == "paying"
    preimage = web.node._preimages[bolt11.read(invoice).payment_hash]
    await accept(pool, attempt, WasPaid(preimage, 5))
    assert (await web.job(job))["refundState"] == "paid"
    assert await pool.fetchval("select amount_msat from transfers where cause_kind = 'routing_fee'") == 5
    for verdict in (WasPaid(preimage, 5), WasNotPaid()):
        with pytest.raises(AcceptError, match="only a frozen one"):
            await accept(pool, attempt, verdict)


async def test_accepted_as_not_paid_is_owed_again(web: Web) -> None:
    job, attempt, first = await frozen(web)
    await accept(web.gateway.pool, attempt, WasNotPaid())
    await web.until(job, refundState="pending", refundAmountSats=70)
    second = web.invoice(70)
    assert (await web.refund(job, second))[0] == 202
    await web.until(job, refundState="paid")
    assert (web.sends(first), web.sends(second)) == (1, 1)


async def test_in_flight_for_ever_is_the_operators_to_decide(web: Web) -> None:
    """LND lost it in a crash (lnd#5152). A node that says later that it was paid is believed before the operator."""
    job = await owing(web)
    web.node.next_outcomes.append(InFlight())
    invoice = web.invoice(70)
    assert (await web.refund(job, invoice))[0] == 202
    await until_attempt(web, "update_seen")
    await web.gateway.pool.execute("update refund_attempts set expires_at = now() - interval '28 days'")
    attempt = await until_attempt(web, "state = 'frozen' and failure_reason like '%It may have been paid%'")
    assert (await web.job(job))["refundState"] == "paying"
    assert (await report(web)).is_clean

    web.node.resolve(bolt11.read(invoice).payment_hash)
    assert [finding.kind.value for finding in (await report(web)).findings] == ["paid_unbooked"]
    pool, node, me = web.gateway.pool, web.gateway.node, COMMAND
    with pytest.raises(Problem, match="LND says that this payment was made"):
        await decide_frozen(pool, node, me, attempt, WasNotPaid())
    paid = web.node._payments[bolt11.read(invoice).payment_hash]
    assert isinstance(paid, Settled)
    await decide_frozen(pool, node, me, attempt, WasPaid(paid.preimage, paid.fee_msat))
    assert (await web.job(job))["refundState"] == "paid"
    assert (await report(web)).is_clean


async def test_what_lnd_has_in_flight_or_does_not_tell_was_not_paid_by_nobodys_word(web: Web) -> None:
    _, attempt, invoice = await frozen(web)
    pool, node, payment_hash = web.gateway.pool, web.gateway.node, bolt11.read(invoice).payment_hash
    web.node._payments[payment_hash] = InFlight()
    with pytest.raises(Problem, match="in flight: it may still be paid"):
        await decide_frozen(pool, node, COMMAND, attempt, WasNotPaid())
    web.node.go_unavailable()
    with pytest.raises(NodeUnavailable):
        await decide_frozen(pool, node, COMMAND, attempt, WasNotPaid())
    assert await pool.fetchval("select state from refund_attempts") == "frozen"
    web.node.come_back()
    await pool.execute("update refund_attempts set expires_at = now() - interval '28 days'")
    await decide_frozen(pool, node, COMMAND, attempt, WasNotPaid())
    assert await pool.fetchval("select state from refund_attempts") == "failed"


async def test_two_operators_at_once_decide_once(web: Web) -> None:
    job, attempt, invoice = await frozen(web)
    preimage = web.node._preimages[bolt11.read(invoice).payment_hash]
    verdicts = [WasPaid(preimage, 1), WasNotPaid()] * 4
    ended = await asyncio.gather(
        *(accept(web.gateway.pool, attempt, verdict) for verdict in verdicts), return_exceptions=True
    )
    assert sum(result is None for result in ended) == 1
    assert all(result is None or isinstance(result, AcceptError) for result in ended)
    assert (await web.job(job))["refundState"] in ("paid", "pending")


async def test_only_frozen_attempts_are_the_operators(web: Web) -> None:
    job = await owing(web)
    web.node.next_outcomes.append(InFlight())
    invoice = web.invoice(70)
    await web.refund(job, invoice)
    attempt = await until_attempt(web, "update_seen")
    with pytest.raises(AcceptError, match="is unfinished"):
        await accept(web.gateway.pool, attempt, WasNotPaid())
    with pytest.raises(AcceptError, match="there is no"):
        await accept(web.gateway.pool, "no such attempt", WasNotPaid())
    web.node.resolve(bolt11.read(invoice).payment_hash)
    await web.until(job, refundState="paid")


async def invoice_of_a_lost_time(web: Web) -> bytes:
    """The node knows an invoice of this database that the database does not: an older backup was restored."""
    preimage = os.urandom(32)
    await web.node.add_invoice(preimage, Msat(1000), web.gateway.memo("Echo"), 600)
    return hashlib.sha256(preimage).digest()


async def test_an_older_backup_freezes_debts_that_may_have_been_paid_since(web: Web) -> None:
    job = await owing(web)
    lost = await invoice_of_a_lost_time(web)
    await web.gateway.pool.execute("update refunds set created_at = now() - interval '1 hour'")
    invoice = web.invoice(70)
    assert (await web.refund(job, invoice))[0] == 202
    attempt = await until_attempt(web, "state = 'frozen'")
    assert web.sends(invoice) == 0
    assert [(f.kind.value, f.payment_hash) for f in (await report(web)).findings] == [("not_in_database", lost)]
    # The operator finds that it was not paid: another invoice may be given, and is paid.
    await accept(web.gateway.pool, attempt, WasNotPaid())
    await web.gateway.pool.execute("update refund_attempts set finished_at = now() + interval '5 seconds'")
    await web.refund(job, web.invoice(70))
    await web.until(job, refundState="paid")


async def test_a_send_without_a_trace_is_not_repeated_when_a_backup_was_restored(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await owing(web)
    await web.gateway.pool.execute("update refunds set created_at = now() - interval '1 hour'")
    sends = 0

    async def lost(*_: object, **__: object) -> Unknown:
        nonlocal sends
        sends += 1
        await invoice_of_a_lost_time(web)
        return Unknown("the send was lost on the way")

    monkeypatch.setattr(web.node, "send_payment", lost)
    await web.refund(job, web.invoice(70))
    await until_attempt(web, "state = 'frozen'")
    assert sends == 1


async def test_a_debt_made_after_the_backup_is_paid_as_ever(web: Web) -> None:
    await invoice_of_a_lost_time(web)
    job = await owing(web)
    await web.gateway.pool.execute("update refunds set created_at = now() + interval '5 seconds'")
    await web.refund(job, web.invoice(70))
    await web.until(job, refundState="paid")


class ListedNode(FakeNode):
    listed = 0

    def list_invoices(self, *, after_add_index: int = 0) -> AsyncGenerator[Invoice, None]:
        self.listed += 1
        return super().list_invoices(after_add_index=after_add_index)


async def test_looks_for_strangers_that_begin_together_are_one(pool: Pool) -> None:
    node = ListedNode()
    strangers = Strangers(pool, node)
    assert await asyncio.gather(*(strangers.look(60.0) for _ in range(8))) == [0] * 8
    assert node.listed == 1
    await strangers.look(0.0)
    assert node.listed == 2
