"""The `http` worker against a real service on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

from gateway.catalogue.model import HttpWork
from gateway.work.http_worker import HttpWorker
from gateway.work.signed_post import SignedPost
from gateway.work.worker import Done, WorkFailed, WorkOrder

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]

UNREACHABLE = WorkFailed("The service that does this work could not be reached.")


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a service whose `POST /run` is the given handler; answers its address."""
    async with AsyncExitStack() as stack:

        async def start(handler: Handler) -> str:
            app = web.Application()
            app.router.add_post("/run", handler)
            server = TestServer(app)
            await server.start_server()
            stack.push_async_callback(server.close)
            return str(server.make_url("/run"))

        yield start


@pytest.fixture
async def worker() -> AsyncIterator[HttpWorker]:
    async with aiohttp.ClientSession() as session:
        yield HttpWorker(SignedPost(session, Webhook(SECRET), (0.0, 0.0, 0.0), max_answer_bytes=10_000))


def order(url: str, attempt: int = 1, **more: Any) -> WorkOrder:
    table = {"name": "translate", "worker": "http", "url": url, "price": {"estimate_sats": 100}, **more}
    return WorkOrder("job-1", HttpWork.model_validate(table), {"text": "schön"}, 100, attempt)


async def test_the_service_is_asked_as_promised_and_its_answer_counts(worker: HttpWorker, serve: Serve) -> None:
    seen: list[tuple[dict[str, str], Any]] = []

    async def handler(request: web.Request) -> web.Response:
        body = await request.text()
        seen.append((dict(request.headers), Webhook(SECRET).verify(body, dict(request.headers))))
        return web.json_response({"result": {"text": "beautiful"}, "costSats": 7, "more": 1})

    url = await serve(handler)
    assert await worker.run(order(url)) == Done({"text": "beautiful"}, 7)
    assert await worker.run(order(url, attempt=2)) == Done({"text": "beautiful"}, 7)
    (headers, body), (second_headers, _) = seen
    assert body == {"jobId": "job-1", "work": "translate", "input": {"text": "schön"}, "maxCostSats": 100}
    assert headers["Idempotency-Key"] == second_headers["Idempotency-Key"] == "job-1"
    assert headers["webhook-id"] != second_headers["webhook-id"]


async def test_a_cost_above_the_cap_is_told_as_it_is(worker: HttpWorker, serve: Serve) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"result": None, "costSats": 5000})

    assert await worker.run(order(await serve(handler))) == Done(None, 5000)


@pytest.mark.parametrize("status", [201, 202, 204, 301, 307, 400, 402, 404, 429, 500, 503])
async def test_any_other_status_fails_the_work_at_once(worker: HttpWorker, serve: Serve, status: int) -> None:
    calls = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.Response(status=status, headers={"Location": "/run"} if 300 <= status < 400 else None)

    failed = await worker.run(order(await serve(handler)))
    assert failed == WorkFailed(f"The service that does this work refused it (HTTP {status}).")
    assert calls == 1


WITHOUT_COST = WorkFailed("The service that does this work did not say what it cost.")
NOT_JSON = WorkFailed("The service that does this work did not answer in JSON.")
WITHOUT_RESULT = WorkFailed("The service that does this work answered without a result.")
NOT_KEPT = WorkFailed("The service that does this work answered with something that cannot be kept.")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"result": 1, "costSats": 1.0}', WITHOUT_COST),
        ('{"result": 1, "costSats": true}', WITHOUT_COST),
        ('{"result": 1, "costSats": "1"}', WITHOUT_COST),
        ('{"result": 1, "costSats": -1}', WITHOUT_COST),
        ('{"result": 1, "costSats": null}', WITHOUT_COST),
        ('{"result": 1}', WITHOUT_COST),
        ('{"result": 1, "costSats": 99999999999999999999}', WITHOUT_COST),
        ('{"costSats": 1}', WITHOUT_RESULT),
        ("[]", WITHOUT_RESULT),
        ("", NOT_JSON),
        ("<html>", NOT_JSON),
        ('{"result": NaN, "costSats": 1}', NOT_JSON),
        ("[" * 5000, NOT_JSON),
        ('{"result": 1, "costSats": ' + "9" * 5000 + "}", NOT_JSON),
        ('{"result": "\\u0000", "costSats": 1}', NOT_KEPT),
        ('{"result": "\\ud800", "costSats": 1}', NOT_KEPT),
        ('{"result": 1e999, "costSats": 1}', NOT_KEPT),
        (
            '{"result": "' + "a" * 20_000 + '", "costSats": 1}',
            WorkFailed("The service that does this work answered with too much."),
        ),
    ],
)
async def test_any_other_answer_is_a_failure(
    worker: HttpWorker, serve: Serve, answer: str, expected: WorkFailed
) -> None:
    calls = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.Response(text=answer, content_type="application/json")

    assert await worker.run(order(await serve(handler))) == expected
    assert calls == 1


async def test_a_free_run_is_a_run(worker: HttpWorker, serve: Serve) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"result": {}, "costSats": 0})

    assert await worker.run(order(await serve(handler))) == Done({}, 0)


def _reset(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


async def test_resets_are_tried_again_with_the_same_keys(worker: HttpWorker, serve: Serve) -> None:
    seen: list[tuple[str, str]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        body = await request.text()
        Webhook(SECRET).verify(body, dict(request.headers))
        seen.append((request.headers["Idempotency-Key"], request.headers["webhook-id"]))
        if len(seen) <= 2:
            _reset(request)
        return web.json_response({"result": "done", "costSats": 3})

    assert await worker.run(order(await serve(handler), attempt=5)) == Done("done", 3)
    assert seen == [("job-1", "job-1.5")] * 3


async def test_after_three_retries_it_is_over(worker: HttpWorker, serve: Serve) -> None:
    calls = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        _reset(request)
        return web.Response()

    assert await worker.run(order(await serve(handler))) == UNREACHABLE
    assert calls == 4


async def test_an_answer_cut_off_is_tried_again(worker: HttpWorker, serve: Serve) -> None:
    calls = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        if calls > 1:
            return web.json_response({"result": 1, "costSats": 1})
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"result": 1, "costSats": 1}')
        _reset(request)
        return response

    assert await worker.run(order(await serve(handler))) == Done(1, 1)
    assert calls == 2


async def test_nobody_listens(worker: HttpWorker, unused_tcp_port: int) -> None:
    failed = await worker.run(order(f"http://127.0.0.1:{unused_tcp_port}/run"))
    assert failed == UNREACHABLE


async def test_a_service_that_takes_too_long_is_asked_again(serve: Serve) -> None:
    calls = 0
    release = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        if calls == 1:
            await release.wait()
        return web.json_response({"result": calls, "costSats": 1})

    async with aiohttp.ClientSession() as session:
        worker = HttpWorker(SignedPost(session, Webhook(SECRET), retry_delays_s=(0.0,)))
        assert await worker.run(order(await serve(handler), timeout_s=1)) == Done(2, 1)
    release.set()


async def test_a_slow_service_blocks_no_other(worker: HttpWorker, serve: Serve) -> None:
    release = asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        await release.wait()
        return web.json_response({"result": "slow", "costSats": 1})

    async def quick(_: web.Request) -> web.Response:
        return web.json_response({"result": "quick", "costSats": 1})

    slow_url, quick_url = await serve(slow), await serve(quick)
    waiting = [asyncio.create_task(worker.run(order(slow_url))) for _ in range(20)]
    assert await worker.run(order(quick_url)) == Done("quick", 1)
    assert not any(task.done() for task in waiting)
    release.set()
    assert await asyncio.gather(*waiting) == [Done("slow", 1)] * 20


async def test_a_cancelled_run_hangs_up(worker: HttpWorker, serve: Serve) -> None:
    asked, hung_up = asyncio.Event(), asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            hung_up.set()
        return web.Response()

    run = asyncio.create_task(worker.run(order(await serve(handler))))
    await asked.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await asyncio.wait_for(hung_up.wait(), 5)


async def test_reasons_name_no_address(worker: HttpWorker, unused_tcp_port: int) -> None:
    failed = await worker.run(order(f"http://127.0.0.1:{unused_tcp_port}/internal-name"))
    assert isinstance(failed, WorkFailed)
    assert str(unused_tcp_port) not in failed.reason
    assert "internal-name" not in json.dumps(failed.reason)
