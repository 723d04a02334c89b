"""LNURL-withdraw on the web layer: a code is used once, and what is owed is paid once."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode, urlsplit

import bech32
import pytest

from tests.web.conftest import Web


async def code(web: Web, job: dict[str, Any]) -> dict[str, Any]:
    status, body = await web.call("GET", f"/api/jobs/{job['id']}/refund/lnurl", token=job["token"])
    assert status == 200, body
    return dict(body)


async def call(web: Web, url: str, **query: str) -> dict[str, Any]:
    path = urlsplit(url).path
    status, body = await web.call("GET", f"{path}?{urlencode(query)}" if query else path)
    assert status == 200
    return dict(body)


async def pay(web: Web, offer: dict[str, Any], invoice: str) -> dict[str, Any]:
    return await call(web, offer["callback"], k1=offer["k1"], pr=invoice)


async def test_a_wallet_fetches_what_is_owed(web: Web) -> None:
    job = await web.owing()
    shown = await code(web, job)
    hrp, words = bech32.bech32_decode(shown["lnurl"])
    assert hrp == "lnurl"
    assert bytes(bech32.convertbits(words, 5, 8, False)).decode() == shown["url"]
    assert shown["amountSats"] == 70
    offer = await call(web, shown["url"])
    assert (offer["tag"], offer["minWithdrawable"], offer["maxWithdrawable"]) == ("withdrawRequest", 70_000, 70_000)
    assert offer["balanceCheck"] == shown["url"]
    assert await code(web, job) == shown
    assert await pay(web, offer, web.invoice(70)) == {"status": "OK"}
    await web.until(job, refundState="paid", refundAmountSats=70)
    assert [sent.amount_msat for sent in web.node.sent] == [70_000]
    assert (await call(web, shown["url"]))["status"] == "ERROR"
    stored = await web.gateway.pool.fetchval("select encode(k1_hash, 'hex') from lnurl_withdrawals")
    assert stored != offer["k1"]


async def test_ten_calls_with_equal_invoices_pay_once(web: Web) -> None:
    job = await web.owing()
    offer = await call(web, (await code(web, job))["url"])
    invoice = web.invoice(70)
    answers = await asyncio.gather(*(pay(web, offer, invoice) for _ in range(10)))
    assert {answer["status"] for answer in answers} == {"OK"}
    await web.until(job, refundState="paid", refundAmountSats=70)
    assert len(web.node.sent) == 1


async def test_ten_calls_with_different_invoices_pay_once(web: Web) -> None:
    job = await web.owing()
    offer = await call(web, (await code(web, job))["url"])
    answers = await asyncio.gather(*(pay(web, offer, web.invoice(70)) for _ in range(10)))
    assert sorted(answer["status"] for answer in answers) == ["ERROR"] * 9 + ["OK"]
    assert all(answer["reason"] for answer in answers if answer["status"] == "ERROR")
    await web.until(job, refundState="paid", refundAmountSats=70)
    assert len(web.node.sent) == 1


async def refused(web: Web, job: dict[str, Any], answer: dict[str, Any], words: str) -> None:
    assert answer["status"] == "ERROR"
    assert words in answer["reason"]
    assert (await web.job(job))["refundState"] == "pending"
    assert await web.gateway.pool.fetchval("select count(*) from refund_attempts") == 0


async def test_an_expired_code_is_refused(web: Web) -> None:
    job = await web.owing()
    shown = await code(web, job)
    offer = await call(web, shown["url"])
    await web.gateway.pool.execute(
        "update lnurl_withdrawals set created_at = now() - interval '2 hours', expires_at = now() - interval '1 hour'"
    )
    await refused(web, job, await pay(web, offer, web.invoice(70)), "too old")
    await refused(web, job, await call(web, shown["url"]), "too old")
    assert (await code(web, job))["url"] != shown["url"]


@pytest.mark.parametrize("amount", [69, 71])
async def test_a_wrong_amount_is_refused_and_the_code_stays(web: Web, amount: int) -> None:
    job = await web.owing()
    offer = await call(web, (await code(web, job))["url"])
    await refused(web, job, await pay(web, offer, web.invoice(amount)), "70 sats")
    assert (await pay(web, offer, web.invoice(70)))["status"] == "OK"
    await web.until(job, refundState="paid")


async def test_a_foreign_k1_or_no_invoice_is_refused(web: Web) -> None:
    job = await web.owing()
    offer = await call(web, (await code(web, job))["url"])
    await refused(web, job, await call(web, offer["callback"], k1="0" * 64, pr=web.invoice(70)), "k1")
    await refused(web, job, await call(web, offer["callback"], k1=offer["k1"], pr="hello"), "invoice")
    await refused(web, job, await call(web, f"/lnurl/withdraw/{'0' * 64}"), "not known")


async def test_nothing_owed(web: Web) -> None:
    job = await web.owing()
    offer = await call(web, (await code(web, job))["url"])
    await web.refund(job, web.invoice(70))
    await web.until(job, refundState="paid")
    assert (await pay(web, offer, web.invoice(70)))["status"] == "ERROR"
    assert len(web.node.sent) == 1
    status, problem = await web.call("GET", f"/api/jobs/{job['id']}/refund/lnurl", token=job["token"])
    assert (status, problem["code"]) in ((409, "nothing_to_refund"), (409, "refund_in_progress"))
    assert (await web.call("GET", f"/api/jobs/{job['id']}/refund/lnurl"))[0] == 401


async def test_the_page_shows_the_code(web: Web) -> None:
    job = await web.owing()
    shown = await code(web, job)
    cookie = {"Cookie": f"boltworks_job={job['token']}"}
    async with web.http.get(f"{web.url}/jobs/{job['id']}", headers=cookie) as response:
        text = await response.text()
    assert f"lightning:{shown['lnurl']}" in text
    assert text.index('id="withdraw"') < text.index('id="destination"')
