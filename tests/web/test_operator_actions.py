"""What the operator does from a page: asked about first, done once, and written down with who it was."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ledger.money import MAX_SATS
from lightning import bolt11
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web
from tests.web.free_tier import ALICE, fund, pool_now, rank
from tests.web.free_tier import operator as by_key
from tests.web.operator_browser import hidden_fields, operating, words
from tests.web.test_reconcile import frozen


async def actions(web: Web) -> list[tuple[str, ...]]:
    """Without logins: who, what, to whom, outcome, and why it was refused."""
    rows = await web.gateway.pool.fetch(
        "select who, action, subject, said, outcome, coalesce(problem, '') as problem from operator_actions"
        " where action not in ('login', 'logout') order by id"
    )
    return [tuple(row) for row in rows]


async def test_a_topup_is_asked_about_and_booked_once(web: Web) -> None:
    async with operating(web) as operator:
        question = await operator.send("/operator/pool", {"amount_sats": "10 000"})
        assert "Give 10,000 sats" in question.text
        assert (await pool_now(web))[0] == 0
        assert await actions(web) == []
        answer = hidden_fields(question)
        pages = await asyncio.gather(*(operator.post("/operator/pool", answer) for _ in range(3)))
        assert {page.status for page in pages} == {303}
        assert (await pool_now(web))[0] == 10_000
        told = [(await operator.get(page.headers["Location"])).text for page in pages]
        assert sum("Done:" in text for text in told) == 1
        assert sum("nothing happened again" in text for text in told) == 2
        assert "10000 sats" in (await operator.get("/operator/actions")).text
    outcomes = [(who, action, outcome) for who, action, _, _, outcome, _ in await actions(web)]
    assert sorted(outcomes) == [("session", "topup", "done"), *[("session", "topup", "repeated")] * 2]
    logged = await web.gateway.pool.fetchrow(
        "select * from operator_actions where outcome = 'done' and action = 'topup'"
    )
    assert logged["session_id"] == await web.gateway.pool.fetchval("select id from operator_sessions")
    assert str(logged["client_address"]) == "127.0.0.1"


@pytest.mark.parametrize("amount", ["", "0", "-5", "5.5", "1e3", "five", "٥", str(MAX_SATS + 1), "9" * 400])
async def test_an_amount_that_is_none(web: Web, amount: str) -> None:
    async with operating(web) as operator:
        page = await operator.send("/operator/pool", {"amount_sats": amount})
        assert (page.status, "invalid_body" in page.text) == (422, True)
    assert await actions(web) == []


async def test_an_answer_without_its_question(web: Web) -> None:
    async with operating(web) as operator:
        for once in ({}, {"once": "x"}, {"once": "é" * 22}):
            page = await operator.send("/operator/pool", {"amount_sats": "5", "sure": "yes", **once})
            assert page.status == 400
    assert (await pool_now(web))[0] == 0


async def test_what_is_refused_is_written_down_too(web: Web) -> None:
    await fund(web, MAX_SATS - 10)
    async with operating(web) as operator:
        _, refused = await operator.confirm("/operator/pool", {"amount_sats": "11"})
        assert (refused.status, "pool_full" in refused.text) == (409, True)
    assert await actions(web) == [
        ("key", "topup", "pool", f"{MAX_SATS - 10} sats", "done", ""),
        ("session", "topup", "pool", "11 sats", "refused", "pool_full"),
    ]


async def test_an_identity_is_changed_after_a_question(web: Web) -> None:
    path = f"/operator/identities/{ALICE.pubkey}"
    async with operating(web) as operator:
        assert "has bought nothing here" in (await operator.get(path)).text
        question = await operator.send(path, {"tier": "all", "blocked": "yes"})
        assert "what it earned → all" in question.text
        assert "let in → blocked" in question.text
        assert await web.gateway.pool.fetchval("select count(*) from identities") == 0
        done = await operator.post(path, hidden_fields(question))
        assert "Done:" in (await operator.get(done.headers["Location"])).text
        row = await web.gateway.pool.fetchrow("select operator_tier, blocked from identities")
        assert tuple(row) == ("all", True)
        question, _ = await operator.confirm(path, {"tier": ""})
        assert "all → what it earned" in question.text
        assert "blocked → let in" in question.text
        row = await web.gateway.pool.fetchrow("select operator_tier, blocked from identities")
        assert tuple(row) == (None, False)
    assert await actions(web) == [
        ("session", "identity", ALICE.pubkey, "tier: all, blocked", "done", ""),
        ("session", "identity", ALICE.pubkey, "tier: what it earned, let in", "done", ""),
    ]


async def test_an_identity_that_can_not_be(web: Web) -> None:
    async with operating(web) as operator:
        assert (await operator.get("/operator/identities/nobody")).status == 400
        assert (await operator.get("/operator/identity?pubkey=nobody")).status == 400
        found = await operator.get(f"/operator/identity?pubkey=+{ALICE.pubkey.upper()}+")
        assert found.headers["Location"] == f"/operator/identities/{ALICE.pubkey}"
        page = await operator.send(f"/operator/identities/{ALICE.pubkey}", {"tier": "no such tier"})
        assert (page.status, "there is no such tier" in page.text) == (422, True)


async def rejected(web: Web) -> tuple[dict[str, Any], str]:
    """A job whose refund's destination was rejected, and the refund's id."""
    job = await web.paid({"cost": 30}, refundTo=web.invoice(69))
    await web.until(job, state="complete", refundState="pending")
    async with asyncio.timeout(PATIENCE_S):
        while "70 sats" not in (await web.job(job)).get("refundProblem", ""):
            await asyncio.sleep(0.05)
    return job, str(await web.gateway.pool.fetchval("select id from refunds"))


async def test_a_rejected_refund_is_tried_again(web: Web) -> None:
    job, refund_id = await rejected(web)
    usable = web.invoice(70)
    await web.gateway.pool.execute("update jobs set refund_to = $1", usable)
    path = f"/operator/refunds/{refund_id}/retry"
    async with operating(web) as operator:
        listed = await operator.get("/operator/refunds?state=rejected")
        assert f'action="{path}"' in listed.text
        question = await operator.send(path)
        assert usable in question.text
        assert await actions(web) == []
        done = await operator.post(path, hidden_fields(question))
        assert done.status == 303
        await web.until(job, refundState="paid", refundAmountSats=70)
        again = await operator.send(path)
        assert (again.status, "It is paid." in again.text) == (409, True)
        assert (await operator.send("/operator/refunds/unknown/retry")).status == 404
        assert path not in (await operator.get("/operator/refunds")).text
    assert await actions(web) == [
        ("session", "refund_retry", refund_id, "70 sats", "done", ""),
        ("session", "refund_retry", refund_id, "70 sats", "refused", "refund_not_retryable"),
    ]


async def test_the_reconciliation_runs_from_the_page(web: Web) -> None:
    await web.owing()
    async with operating(web) as operator:
        assert "Run it now" in (await operator.get("/operator/reconciliation")).text
        assert "Nothing differs" in (await operator.send("/operator/reconciliation")).text
        web.node.go_unavailable()
        unknown = await operator.send("/operator/reconciliation")
        web.node.come_back()
        assert unknown.status == 200
        assert unknown.text.count(">unknown<") == 5
    assert await actions(web) == [
        ("session", "reconcile", "books", "nothing differs", "done", ""),
        ("session", "reconcile", "books", "unknown: the node did not answer", "done", ""),
    ]


async def test_what_the_key_does_by_the_api_is_written_down(web: Web) -> None:
    key = {"Idempotency-Key": "a-key-of-twenty-characters"}
    token = web.gateway.settings.operator_key.get_secret_value()
    for _ in range(2):
        answered = await web.call("POST", "/api/operator/pool/topups", {"amountSats": 7}, token=token, headers=key)
        assert answered[0] == 200
    await rank(web, "all")
    await by_key(web, "GET", "reconciliation")
    await by_key(web, "GET", "jobs")
    assert await actions(web) == [
        ("key", "topup", "pool", "7 sats", "done", ""),
        ("key", "topup", "pool", "7 sats", "repeated", ""),
        ("key", "identity", ALICE.pubkey, "tier: all", "done", ""),
    ]


async def test_a_frozen_refund_is_decided_by_its_proof(web: Web) -> None:
    job, attempt, invoice = await frozen(web)
    path = f"/operator/frozen/{attempt}"
    preimage = web.node._preimages[bolt11.read(invoice).payment_hash].hex()
    async with operating(web) as operator:
        assert path in (await operator.get("/operator")).text
        assert path in (await operator.get("/operator/refunds?state=frozen")).text
        assert invoice in (await operator.get(path)).text
        for wrong in ({}, {"verdict": "paid"}, {"preimage": preimage}, {"verdict": "paid", "preimage": preimage}):
            assert (await operator.send(path, wrong)).status == 422
        _, refused = await operator.confirm(path, {"verdict": "paid", "preimage": "ab" * 32, "fee_msat": "5"})
        assert (refused.status, "proves nothing" in refused.text) == (409, True)
        assert (await web.job(job))["refundState"] == "paying"
        question, done = await operator.confirm(path, {"verdict": "paid", "preimage": preimage, "fee_msat": "5"})
        assert preimage in question.text
        assert "Done: refund of 70 sats: was paid." in words(await operator.get(done.headers["Location"]))
        assert (await web.job(job))["refundState"] == "paid"
        assert (await operator.get(path)).status == 409
        assert (await operator.get("/operator/frozen/unknown")).status == 409
        assert (await operator.get("/operator/frozen/%00")).status == 404
    assert await web.gateway.pool.fetchval("select amount_msat from transfers where cause_kind = 'routing_fee'") == 5
    assert await actions(web) == [
        ("session", "refund_decided", attempt, "70 sats: was paid", "refused", "refund_not_accepted"),
        ("session", "refund_decided", attempt, "70 sats: was paid", "done", ""),
    ]


async def test_a_frozen_refund_that_was_not_paid_is_owed_again(web: Web) -> None:
    job, attempt, _ = await frozen(web)
    async with operating(web) as operator:
        question, _ = await operator.confirm(f"/operator/frozen/{attempt}", {"verdict": "failed"})
    assert "it is paid twice" in question.text
    await web.until(job, refundState="pending", refundAmountSats=70)
    assert await actions(web) == [("session", "refund_decided", attempt, "70 sats: was not paid", "done", "")]
