"""Receipts: the sums are the book's, and the signature is anybody's to verify."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import coincurve
import pytest

from tests.web.conftest import Web


async def receipt(web: Web, job: dict[str, Any]) -> dict[str, Any]:
    status, signed = await web.call("GET", f"/api/jobs/{job['id']}/receipt", token=job["token"])
    assert status == 200, signed
    return dict(signed)


def verifies(signed: dict[str, Any]) -> bool:
    """As a stranger with a BIP-340 library would."""
    text = json.dumps(signed["receipt"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode()).digest()
    key = coincurve.PublicKeyXOnly(bytes.fromhex(signed["pubkey"]))
    return digest.hex() == signed["sha256"] and key.verify(bytes.fromhex(signed["signature"]), digest)


async def test_who_paid_what_and_what_went_back(web: Web) -> None:
    job = await web.owing(30)
    before = (await receipt(web, job))["receipt"]
    assert (before["refundedSats"], before["owedBackSats"]) == (0, 70)
    back = web.invoice(70)
    await web.call("POST", f"/api/jobs/{job['id']}/refund", {"destination": back}, token=job["token"])
    await web.until(job, refundState="paid")
    signed = await receipt(web, job)
    assert verifies(signed)
    seen = signed["receipt"]
    assert (seen["jobId"], seen["work"], seen["state"]) == (job["id"], "echo", "complete")
    assert seen["issuer"] == web.gateway.settings.base_url
    assert (seen["youPaidSats"], seen["youWereChargedSats"], seen["poolPaidSats"]) == (100, 30, 0)
    assert (seen["refundedSats"], seen["owedBackSats"]) == (70, 0)
    (paid,) = seen["payments"]
    assert (paid["paymentHash"], paid["amountSats"]) == (job["invoice"]["paymentHash"], 100)
    (refunded,) = seen["refunds"]
    assert (refunded["amountSats"], refunded["state"], len(refunded["paymentHash"])) == (70, "paid", 64)


async def test_a_changed_receipt_does_not_verify(web: Web) -> None:
    signed = await receipt(web, await web.owing(30))
    assert verifies(signed)
    signed["receipt"]["youPaidSats"] += 1
    assert not verifies(signed)


async def test_the_key_is_told_and_stays(web: Web) -> None:
    signed = await receipt(web, await web.owing(30))
    status, told = await web.call("GET", "/api/receipt-key")
    assert (status, told) == (200, {"algorithm": "BIP-340", "pubkey": signed["pubkey"]})


async def test_work_that_failed(web: Web) -> None:
    job = await web.paid({"fail": True})
    await web.until(job, state="failed", refundState="pending")
    seen = (await receipt(web, job))["receipt"]
    assert (seen["youPaidSats"], seen["youWereChargedSats"], seen["owedBackSats"]) == (100, 0, 100)


@pytest.mark.parametrize("token", [None, "somebody"])
async def test_only_its_owner(web: Web, token: str | None) -> None:
    job = await web.owing(30)
    status, _ = await web.call("GET", f"/api/jobs/{job['id']}/receipt", token=token)
    assert status == 401


async def test_before_the_end_there_is_none(web: Web) -> None:
    job = await web.buy("echo", {})
    status, problem = await web.call("GET", f"/api/jobs/{job['id']}/receipt", token=job["token"])
    assert (status, problem["code"]) == (404, "not_available")
