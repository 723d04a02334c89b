"""The wire of jobs: prices, refusals, idempotency, access, events. Nothing is written for bad input."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from gateway.api import openapi
from gateway.api.access import client_address
from gateway.jobs import end_unpaid
from gateway.jobs import price as pricing
from gateway.jobs.open_invoices import OpenInvoices
from gateway.pages import docs
from ledger.database import Pool
from lightning.node import Node
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web

KEY = {"Idempotency-Key": "a-key-of-twenty-characters"}


async def rows(web: Web) -> int:
    return int(
        await web.gateway.pool.fetchval(
            "select (select count(*) from jobs) + (select count(*) from invoices) + (select count(*) from transfers)"
            " + (select count(*) from idempotency_keys)"
        )
    )


async def test_an_estimate_writes_nothing(web: Web) -> None:
    status, body = await web.call("POST", "/api/estimate", {"work": "echo", "input": {}})
    assert status == 200
    assert body == {
        "work": "echo",
        "estimateSats": 100,
        "serve": "gate",
        "absorbSats": 0,
        "chargeSats": 100,
        "reason": "no_identity",
    }
    assert await rows(web) == 0


@pytest.mark.parametrize("path", ["/api/estimate", "/api/jobs"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"work": "nothing", "input": {}}, 404, "unknown_work"),
        ({"work": "markdown-pdf", "input": {}}, 422, "invalid_input"),
        ({"work": "markdown-pdf", "input": {"markdown": 5}}, 422, "invalid_input"),
        ({"work": "markdown-pdf", "input": {"markdown": "x" * 20_001}}, 422, "invalid_input"),
        ({"work": "echo", "input": []}, 422, "invalid_body"),
        ({"work": "echo"}, 422, "invalid_body"),
        ({"work": 5, "input": {}}, 422, "invalid_body"),
        ({"work": "echo", "input": {}, "amountSats": -5}, 422, "invalid_body"),
        ({"work": "echo", "input": {"a": "\0"}}, 400, "invalid_request"),
        ({"work": "echo", "input": {"a": 10**40}}, 400, "invalid_request"),
        ([], 422, "invalid_body"),
        (None, 415, "not_json"),
        ({"work": "echo", "input": {"a": "x" * 300_000}}, 413, "body_too_large"),
    ],
)
async def test_bad_input_has_a_code_and_writes_nothing(web: Web, path: str, body: Any, status: int, code: str) -> None:
    answered, problem = await web.call("POST", path, body)
    assert (answered, problem["code"], problem["status"]) == (status, code, status)
    assert problem["title"]
    assert await rows(web) == 0


@pytest.mark.parametrize(
    "raw", [b"{", b"\xff", b'{"work":"echo","input":{},"input":{}}', b'{"work":"echo","input":NaN}']
)
async def test_unreadable_json_is_refused(web: Web, raw: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    async with web.http.post(f"{web.url}/api/jobs", data=raw, headers=headers) as response:
        assert response.status == 400
        assert response.content_type == "application/problem+json"
        assert (await response.json(content_type=None))["code"] == "invalid_request"
    assert await rows(web) == 0


@pytest.mark.parametrize(
    ("destination", "code"),
    [
        ("nonsense", "destination_invalid"),
        ("lnbcrt1qqqq", "destination_invalid"),
        ("user@", "destination_invalid"),
        ("wrong network", "destination_wrong_network"),
    ],
)
async def test_a_bad_refund_destination_is_refused_before_anything_is_written(
    web: Web, destination: str, code: str
) -> None:
    if destination == "wrong network":
        from lightning.fake import FakeNode

        destination = FakeNode(network="mainnet").foreign_invoice(None)
    status, problem = await web.call("POST", "/api/jobs", {"work": "echo", "input": {}, "refundTo": destination})
    assert (status, problem["code"]) == (422, code)
    assert await rows(web) == 0


@pytest.mark.parametrize(
    ("work", "body_sats", "header", "status", "code"),
    [
        ("echo", 100, None, 201, None),
        ("echo", None, "100", 201, None),
        ("echo", 99, None, 422, "max_sats_exceeded"),
        ("echo", 100, "99", 422, "max_sats_exceeded"),
        ("echo", 99, "100", 422, "max_sats_exceeded"),
        ("looked-at", 109, None, 422, "max_sats_exceeded"),  # 100 and the fee of the look, 10
        ("looked-at", 110, None, 201, None),
        ("echo", None, "-1", 400, "invalid_request"),
        ("echo", None, "99.5", 400, "invalid_request"),
    ],
)
async def test_what_may_cost_more_than_allowed_is_refused_beforehand(
    web: Web, work: str, body_sats: int | None, header: str | None, status: int, code: str | None
) -> None:
    body = {"work": work, "input": {}} | ({} if body_sats is None else {"maxSats": body_sats})
    headers = {} if header is None else {"X-Max-Sats": header}
    answer = await web.call("POST", "/api/jobs", body, headers=headers)
    assert (answer[0], answer[1].get("code")) == (status, code)
    assert await web.gateway.pool.fetchval("select count(*) from jobs") == (status == 201)


async def test_the_job_is_as_the_contract_says(web: Web) -> None:
    job = await web.buy("echo", {"a": 1})
    assert job["state"] == "awaiting_work_payment"
    assert job["estimateSats"] == job["workAmountSats"] == job["invoice"]["amountSats"] == 100
    assert (job["serve"], job["absorbSats"], job["refundState"], job["refundAmountSats"]) == ("gate", 0, "none", 0)
    assert job["invoice"]["state"] == "open"
    assert job["invoice"]["expiresAt"].endswith("Z")
    assert job["createdAt"].endswith("Z")
    assert len(job["id"]) >= 22
    for unknown in ("result", "actualCostSats", "absorbedSats", "userChargeSats", "failureReason"):
        assert unknown not in job
    assert "token" not in await web.job(job)


async def test_a_job_runs_when_it_is_paid(web: Web) -> None:
    job = await web.paid({"cost": 30, "word": "hello"})
    done = await web.until(job, state="complete")
    assert done["result"] == {"echo": {"cost": 30, "word": "hello"}}
    assert (done["actualCostSats"], done["userChargeSats"], done["absorbedSats"]) == (30, 30, 0)
    assert (done["refundState"], done["refundAmountSats"]) == ("pending", 70)
    assert web.service.orders == [
        {"jobId": job["id"], "work": "echo", "input": {"cost": 30, "word": "hello"}, "maxCostSats": 100}
    ]


async def test_the_pool_gets_its_share_of_what_users_were_charged(web: Web) -> None:
    job = await web.paid({"cost": 30})
    await web.until(job, state="complete")
    status, body = await web.call("GET", "/api/pool")
    assert (status, body) == (200, {"balanceSats": 1, "reservedSats": 0, "absorbedTodaySats": 0})


async def test_same_key_same_answer(web: Web) -> None:
    body = {"work": "echo", "input": {"a": 1}}
    first = await web.call("POST", "/api/jobs", body, headers=KEY)
    second = await web.call("POST", "/api/jobs", body, headers=KEY)
    assert first[0] == 201
    assert first == second
    assert await web.gateway.pool.fetchval("select count(*) from jobs") == 1
    assert (await web.job(first[1]))["id"] == first[1]["id"]


async def test_same_key_other_body(web: Web) -> None:
    await web.call("POST", "/api/jobs", {"work": "echo", "input": {"a": 1}}, headers=KEY)
    status, problem = await web.call("POST", "/api/jobs", {"work": "echo", "input": {"a": 2}}, headers=KEY)
    assert (status, problem["code"]) == (422, "idempotency_key_reused")
    assert await web.gateway.pool.fetchval("select count(*) from jobs") == 1


async def test_twenty_at_once_with_one_key_make_one_job(web: Web) -> None:
    body = {"work": "echo", "input": {"a": 1}}
    answers = await asyncio.gather(*(web.call("POST", "/api/jobs", body, headers=KEY) for _ in range(20)))
    assert {status for status, _ in answers} <= {201, 409}
    assert {problem["code"] for status, problem in answers if status == 409} <= {"idempotency_key_in_use"}
    assert len({job["id"] for status, job in answers if status == 201}) == 1
    assert await web.gateway.pool.fetchval("select count(*) from jobs") == 1
    assert await web.gateway.pool.fetchval("select count(*) from invoices") == 1


@pytest.mark.parametrize("key", ["short", "x" * 256, "snowman-☃-snowman-☃-snowman"])
async def test_an_unusable_key(web: Web, key: str) -> None:
    raw = json.dumps({"work": "echo", "input": {}})
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    async with web.http.post(f"{web.url}/api/jobs", data=raw, headers=headers) as response:
        assert response.status == 400
        assert (await response.json(content_type=None))["code"] == "idempotency_key_invalid"
    assert await rows(web) == 0


async def test_a_job_interrupted_by_a_lost_answer_is_resumed_by_its_key(web: Web) -> None:
    body = {"work": "echo", "input": {"a": 1}}
    web.node.lose_next_answer()
    status, problem = await web.call("POST", "/api/jobs", body, headers=KEY)
    assert (status, problem["code"]) == (503, "node_unavailable")
    status, job = await web.call("POST", "/api/jobs", body, headers=KEY)
    assert status == 201
    assert await web.gateway.pool.fetchval("select count(*) from jobs") == 1
    assert await web.gateway.pool.fetchval("select count(*) from invoices") == 1
    web.pay(job)
    await web.until(job, state="complete")


async def test_open_invoices_are_capped_per_address(web: Web) -> None:
    for _ in range(20):
        job = await web.buy("echo", {})
    status, problem = await web.call("POST", "/api/jobs", {"work": "echo", "input": {}})
    assert (status, problem["code"]) == (429, "too_many_open_invoices")
    await web.call("POST", f"/api/jobs/{job['id']}/cancel", token=job["token"])
    await web.buy("echo", {})


async def test_a_job_that_is_paid_while_its_cancellation_begins_is_not_cancelled(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Booked before LND is asked: no invoice is left to cancel, which is no cancellation."""
    job = await web.buy("echo", {})
    cancel_at_node = end_unpaid.cancel_at_node

    async def paid_first(pool: Pool, node: Node, job_id: str) -> bool:
        web.pay(job)
        await web.until(job, state="complete")
        return await cancel_at_node(pool, node, job_id)

    monkeypatch.setattr(end_unpaid, "cancel_at_node", paid_first)
    status, problem = await web.call("POST", f"/api/jobs/{job['id']}/cancel", token=job["token"])
    assert (status, problem["code"]) == (409, "job_not_cancelable")


async def test_ways_into_a_job(web: Web) -> None:
    job = await web.buy("echo", {})
    path = f"/api/jobs/{job['id']}"
    stored = await web.gateway.pool.fetchrow("select preimage from invoices")
    proof = {
        "X-Payment-Preimage": bytes(stored["preimage"]).hex(),
        "X-Payment-Request": job["invoice"]["paymentRequest"],
    }
    assert (await web.call("GET", path))[1]["code"] == "credential_required"
    assert (await web.call("GET", path, token="bw_job_" + secrets.token_urlsafe(32)))[1]["code"] == "credential_invalid"
    assert (await web.call("GET", "/api/jobs/unknown", token=job["token"]))[1]["code"] == "job_not_found"
    assert (await web.call("GET", path, headers=proof))[0] == 401, "proof of payment opens only after settlement"
    web.pay(job)
    await web.until(job, state="complete")
    assert (await web.call("GET", path, headers=proof))[0] == 200
    only_half = {"X-Payment-Preimage": proof["X-Payment-Preimage"]}
    assert (await web.call("GET", path, headers=only_half))[0] == 401
    other = await web.buy("echo", {})
    mixed = {**proof, "X-Payment-Request": other["invoice"]["paymentRequest"]}
    assert (await web.call("GET", path, headers=mixed))[0] == 401
    assert stored["preimage"].hex() not in json.dumps(await web.job(job))


async def test_events_begin_with_the_state_and_tell_every_change(web: Web) -> None:
    job = await web.buy("echo", {"cost": 1, "hold": True})
    headers = {"Authorization": f"Bearer {job['token']}"}
    seen: list[str] = []
    async with (
        asyncio.timeout(PATIENCE_S),
        web.http.get(f"{web.url}/api/jobs/{job['id']}/events", headers=headers) as stream,
    ):
        assert stream.content_type == "text/event-stream"
        async for line in stream.content:
            if not line.startswith(b"data: "):
                continue
            state = json.loads(line[6:])["state"]
            seen.append(state)
            if state == "awaiting_work_payment":
                web.pay(job)
            elif state == "executing":
                web.service.release.set()
            else:
                break
    assert list(dict.fromkeys(seen)) == ["awaiting_work_payment", "executing", "complete"]


async def test_a_client_that_leaves_its_events_costs_nothing(web: Web) -> None:
    job = await web.buy("echo", {})
    headers = {"Authorization": f"Bearer {job['token']}"}
    async with web.http.get(f"{web.url}/api/jobs/{job['id']}/events", headers=headers) as stream:
        await stream.content.readline()
    web.pay(job)
    await web.until(job, state="complete")
    assert web.gateway.hub.watched == 0


async def test_a_failing_worker_owes_everything_back(web: Web) -> None:
    job = await web.paid({"fail": True})
    failed = await web.until(job, state="failed")
    assert (failed["refundState"], failed["refundAmountSats"], failed["userChargeSats"]) == ("pending", 100, 0)
    assert failed["failureReason"]


async def test_paid_after_cancellation_is_owed_back_and_the_state_stays(web: Web) -> None:
    """LND would not take it; a node that did anyway is still honoured."""
    job = await web.buy("echo", {})
    await web.gateway.pool.execute("update invoices set state = 'canceled'")
    await web.gateway.pool.execute("update jobs set state = 'expired'")
    web.pay(job, 100_700)
    late = await web.until(job, refundState="pending")
    assert (late["state"], late["refundAmountSats"]) == ("expired", 100)
    assert web.service.orders == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/nothing", 404, "not_found"),
        ("DELETE", "/api/works", 405, "method_not_allowed"),
        ("GET", "/api/jobs", 405, "method_not_allowed"),
    ],
)
async def test_wrong_addresses_are_problems_too(web: Web, method: str, path: str, status: int, code: str) -> None:
    answered, problem = await web.call(method, path)
    assert (answered, problem["code"]) == (status, code)


async def test_health_readiness_and_metrics(web: Web) -> None:
    assert await web.call("GET", "/healthz") == (200, {"status": "ok"})
    status, ready = await web.call("GET", "/readyz")
    assert (status, ready["status"], ready["network"]) == (200, "ready", "regtest")
    web.node.go_unavailable()
    status, problem = await web.call("GET", "/readyz")
    assert (status, problem["code"]) == (503, "not_ready")
    async with web.http.get(f"{web.url}/metrics") as response:
        text = await response.text()
    assert response.status == 200
    for name in ("boltworks_settled_unbooked", "boltworks_parked_events", "boltworks_frozen_refunds"):
        assert name in text


async def test_the_catalogue(web: Web) -> None:
    status, body = await web.call("GET", "/api/works")
    assert status == 200
    assert [work["name"] for work in body["works"]] == ["echo", "looked-at", "looked-at-free", "markdown-pdf"]
    assert "127.0.0.1" not in json.dumps(body), "the operator's own addresses are not shown"


async def test_no_answer_is_cached(web: Web, http: aiohttp.ClientSession) -> None:
    job = await web.buy("echo", {})
    headers = {"Authorization": f"Bearer {job['token']}"}
    async with http.get(f"{web.url}/api/jobs/{job['id']}", headers=headers) as response:
        assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("request_line", "headers", "body", "status"),
    [
        ("GET /api/jobs/%00 HTTP/1.1", "", b"", 404),
        ("GET /jobs/%00 HTTP/1.1", "", b"", 404),
        ("GET /api/jobs/%ff HTTP/1.1", "", b"", 404),
        ("GET /api/jobs/JOB HTTP/1.1", "Authorization: Bearer \xff\r\n", b"", 401),
        ("GET /api/jobs/JOB HTTP/1.1", "Authorization: Bearer \udcff\r\n", b"", 401),
        ("GET /jobs/JOB HTTP/1.1", "Cookie: boltworks_job=\xff\r\n", b"", 401),
        ("GET /api/jobs/JOB HTTP/1.1", f"X-Payment-Preimage: {'00' * 32}\r\nX-Payment-Request: \xff\r\n", b"", 401),
        ("POST /api/jobs HTTP/1.1", "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", b"rubbish", 400),
        ("POST /api/estimate HTTP/1.1", "Content-Type: application/json\r\nContent-Encoding: deflate\r\n", b"x", 400),
        ("POST /webhooks/lightning/invoice-settled HTTP/1.1", "Content-Encoding: gzip\r\n", b"rubbish", 400),
        ("POST /estimate HTTP/1.1", "Origin: http://[\r\n", b"", 403),
    ],
)
async def test_no_bytes_on_the_wire_are_a_500(
    web: Web, request_line: str, headers: str, body: bytes, status: int
) -> None:
    job = await web.paid({"cost": 1})
    await web.until(job, state="complete")
    host, _, port = web.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"{request_line.replace('JOB', job['id'])}\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}"
    writer.write(head.encode("latin-1", errors="surrogateescape") + b"Connection: close\r\n\r\n" + body)
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.readline()
    writer.close()
    assert int(answer.split()[1]) == status


@pytest.mark.parametrize(
    ("peer_header", "address"),
    [
        (["203.0.113.7"], "203.0.113.7/32"),
        (["9.9.9.9, 203.0.113.7"], "203.0.113.7/32"),
        (["9.9.9.9", "203.0.113.7"], "203.0.113.7/32"),
        (["::ffff:203.0.113.7"], "203.0.113.7/32"),
        (["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
        (["rubbish"], "127.0.0.1/32"),
    ],
)
@pytest.mark.parametrize("trusted", [True, False])
def test_the_address_is_the_peers_unless_a_trusted_proxy_says_otherwise(
    peer_header: list[str], address: str, trusted: bool
) -> None:
    headers = CIMultiDict([("X-Forwarded-For", value) for value in peer_header])
    request = make_mocked_request("GET", "/", headers=headers)
    request = request.clone(remote="127.0.0.1")
    proxies = ("127.0.0.0/8",) if trusted else ()
    assert str(client_address(request, proxies)) == (address if trusted else "127.0.0.1/32")


async def test_a_kept_answer_stays_when_the_catalogue_changes(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"work": "echo", "input": {"a": 1}}
    first = await web.call("POST", "/api/jobs", body, headers=KEY)
    monkeypatch.setattr(type(web.gateway.catalogue), "find", lambda self, name: None)
    assert await web.call("POST", "/api/jobs", body, headers=KEY) == first


async def test_bad_input_with_a_key_writes_nothing(web: Web) -> None:
    status, _ = await web.call("POST", "/api/jobs", {"work": "nothing", "input": {}}, headers=KEY)
    assert status == 404
    assert await rows(web) == 0


async def test_the_cap_on_all_open_invoices(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.gateway.open_invoices.counted(web.gateway.settings.open_invoices_total)
    monkeypatch.setattr(OpenInvoices, "counted", lambda self, count: None)
    status, problem = await web.call("POST", "/api/jobs", {"work": "echo", "input": {}})
    assert (status, problem["code"]) == (429, "too_many_open_invoices")


async def test_donations_count_against_the_cap_on_all_open_invoices(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenInvoices, "counted", lambda self, count: None)
    web.gateway.open_invoices.count = web.gateway.settings.open_invoices_total - 1
    status, _ = await web.call("POST", "/api/pool/donations", {"amountSats": 5})
    assert status == 201
    status, problem = await web.call("POST", "/api/pool/donations", {"amountSats": 5})
    assert (status, problem["code"]) == (429, "too_many_open_invoices")


async def test_a_price_too_many_is_refused_and_quick_ones_are_not(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    pdf = {"work": "markdown-pdf", "input": {"markdown": "a"}}
    with monkeypatch.context() as patch:
        patch.setattr(pricing, "_PLACES", threading.BoundedSemaphore(1))
        pricing._PLACES.acquire()
        async with web.http.post(f"{web.url}/api/estimate", json=pdf) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
            assert (await answer.json())["code"] == "not_ready"
        assert (await web.call("POST", "/api/estimate", {"work": "echo", "input": {}}))[0] == 200
        assert (await web.call("POST", "/api/jobs", pdf))[0] == 503
        assert await rows(web) == 0
    assert (await web.call("POST", "/api/estimate", pdf))[0] == 200


async def test_the_description_is_made_once(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    make = openapi.document

    def counted(version: str, base_url: str) -> dict[str, Any]:
        made.append(base_url)
        return make(version, base_url)

    monkeypatch.setattr(openapi, "document", counted)
    docs.described.cache_clear()
    for path in ("/openapi.json", "/docs") * 2:
        async with web.http.get(f"{web.url}{path}") as answer:
            text = await answer.text()
            assert answer.status == 200
            assert answer.headers["Cache-Control"] == "no-store"
            assert "/api/estimate" in text
    assert made == [web.gateway.settings.base_url]
