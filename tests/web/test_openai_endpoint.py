"""`/v1` by the unmodified `openai` client, in front of a deterministic model server of the test's own on loopback."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
import pytest_asyncio
from aiohttp import web as server
from aiohttp.test_utils import TestServer

from gateway.catalogue import load_catalogue
from gateway.catalogue.model import Catalogue
from gateway.work import build_workers
from tests.web.conftest import Web

PRICE = "price = { per_1k_input_tokens_sats = 1000, per_1k_output_tokens_sats = 1000, max_output_tokens = 10 }"
"""A sat a token: what it cost can be read off."""


WRONG_CHOICES: dict[str, Any] = {
    "only a role": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}],
    "choices are a number": 5,
    "a delta is a word": [{"index": 0, "delta": "hello", "message": "hello"}],
    "a word": [{"index": 0, "delta": {"content": "SAY "}, "finish_reason": None}],
}
"""What it says before it hangs up; `silent` says nothing and ends in good order."""


@dataclass
class LoudModelServer:
    """Answers with the last message in capitals, a word a chunk, a token a word; `hold` stops it after the first."""

    asked: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    hold: asyncio.Event | None = None
    goes_wrong: str = ""
    started: asyncio.Event = field(default_factory=asyncio.Event)

    async def chat(self, request: server.Request) -> server.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        if self.status != 200:
            return server.json_response({"error": {"message": "down"}}, status=self.status)
        said = body["messages"][-1]["content"]
        text = said if isinstance(said, str) else " ".join(part.get("text", "") for part in said)
        words = text.upper().split()[: body["max_tokens"]]
        usage = {"prompt_tokens": 2, "completion_tokens": len(words), "total_tokens": 2 + len(words)}
        frame = {"id": "chat-1", "created": 1, "model": body["model"]}
        if not body["stream"]:
            if self.goes_wrong:
                return server.json_response({**frame, "choices": WRONG_CHOICES.get(self.goes_wrong, [])})
            choice = {"index": 0, "message": self._message(body, words), "finish_reason": "stop"}
            return server.json_response({**frame, "object": "chat.completion", "choices": [choice], "usage": usage})
        return await self._stream(request, frame, words, usage)

    def _message(self, body: dict[str, Any], words: list[str]) -> dict[str, Any]:
        if body.get("tools"):
            call = {"name": body["tools"][0]["function"]["name"], "arguments": "{}"}
            return {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": call}],
            }
        return {"role": "assistant", "content": " ".join(words)}

    async def _stream(
        self, request: server.Request, frame: dict[str, Any], words: list[str], usage: dict[str, int]
    ) -> server.StreamResponse:
        response = server.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if self.goes_wrong:
            return await self._go_wrong(request, response, frame)
        for number, word in enumerate(words):
            choice = {"index": 0, "delta": {"content": word + " "}, "finish_reason": None}
            await self._send(response, {**frame, "object": "chat.completion.chunk", "choices": [choice]})
            if number == 0 and self.hold is not None:
                self.started.set()
                await self.hold.wait()
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        await self._send(response, {**frame, "object": "chat.completion.chunk", "choices": [last]})
        await self._send(response, {**frame, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _go_wrong(
        self, request: server.Request, response: server.StreamResponse, frame: dict[str, Any]
    ) -> server.StreamResponse:
        if self.goes_wrong == "silent":
            await response.write(b"data: [DONE]\n\n")
            return response
        choices = WRONG_CHOICES[self.goes_wrong]
        await self._send(response, {**frame, "object": "chat.completion.chunk", "choices": choices})
        assert request.transport is not None
        request.transport.close()
        return response

    async def _send(self, response: server.StreamResponse, chunk: dict[str, Any]) -> None:
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())


@dataclass
class Model:
    """A gateway that sells one model, and a session that pays for it."""

    web: Web
    upstream: LoudModelServer
    session: dict[str, Any]

    def client(self, key: str | None = None) -> openai.AsyncOpenAI:
        url = f"{self.web.url}/v1"
        return openai.AsyncOpenAI(base_url=url, api_key=key or self.session["token"], max_retries=0)

    async def balance(self) -> tuple[int, int]:
        _, seen = await self.web.call("GET", "/api/sessions/current", token=self.session["token"])
        return seen["balanceSats"], seen["heldSats"]


@pytest_asyncio.fixture
async def model(web: Web) -> AsyncIterator[Model]:
    upstream = LoudModelServer()
    app = server.Application()
    app.router.add_post("/v1/chat/completions", upstream.chat)
    async with TestServer(app) as listening:
        _sell(web, str(listening.make_url("/v1")))
        status, session = await web.call("POST", "/api/sessions", {"depositSats": 1000})
        assert status == 201, session
        web.pay(session)
        async with asyncio.timeout(20):
            while True:
                _, seen = await web.call("GET", "/api/sessions/current", token=session["token"])
                if seen["state"] == "active":
                    break
                await asyncio.sleep(0.02)
        yield Model(web, upstream, session)
        if upstream.hold is not None:
            upstream.hold.set()


def _sell(web: Web, base_url: str) -> None:
    """One more work in the gateway's catalogue."""
    path = web.gateway.settings.config
    assert path is not None
    entry = f'[[work]]\nname = "loud"\nworker = "openai"\nbase_url = "{base_url}"\nmodel = "loud-1"\n{PRICE}\n'
    path.write_text(path.read_text() + entry)
    catalogue: Catalogue = load_catalogue(path)
    secret = web.gateway.settings.worker_secret.get_secret_value()
    web.gateway.catalogue, web.gateway.workers = catalogue, build_workers(catalogue, web.gateway.session, secret)


HELLO: list[Any] = [{"role": "user", "content": "say hello to me"}]


async def test_it_completes_and_says_what_it_cost(model: Model) -> None:
    raw = await model.client().chat.completions.with_raw_response.create(model="loud", messages=HELLO)
    answer = raw.parse()
    assert answer.choices[0].message.content == "SAY HELLO TO ME"
    assert answer.model == "loud"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 6
    assert (raw.headers["x-boltworks-cost-sats"], raw.headers["x-boltworks-balance-sats"]) == ("6", "994")
    assert await model.balance() == (994, 0)
    assert model.upstream.asked[0]["model"] == "loud-1"


async def test_it_streams_and_counts_only_for_who_asks(model: Model) -> None:
    stream = await model.client().chat.completions.create(model="loud", messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "SAY HELLO TO ME "
    assert await model.balance() == (994, 0)
    options: Any = {"include_usage": True}
    stream = await model.client().chat.completions.create(
        model="loud", messages=HELLO, stream=True, stream_options=options
    )
    counted = [chunk.usage.total_tokens async for chunk in stream if chunk.usage]
    assert counted == [6]
    assert await model.balance() == (988, 0)


async def test_it_lists_models(model: Model) -> None:
    assert [one.id async for one in await model.client().models.list()] == ["loud"]


async def test_a_wrong_key_is_401(model: Model) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        await model.client("bw_session_nobody").chat.completions.create(model="loud", messages=HELLO)
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError):
        await model.client("bw_session_nobody").models.list()


async def test_what_the_balance_does_not_cover_is_402_with_an_invoice(model: Model) -> None:
    expensive: list[Any] = [{"role": "user", "content": "word " * 400}]
    with pytest.raises(openai.APIStatusError) as refused:
        await model.client().chat.completions.create(model="loud", messages=expensive)
    assert refused.value.status_code == 402
    body: Any = refused.value.body
    assert body["missingSats"] > 0
    assert body["invoice"]["amountSats"] == body["missingSats"]
    assert await model.balance() == (1000, 0)
    assert model.upstream.asked == []


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"model": "nobody"}, 404, "unknown_model"),
        ({"model": "echo"}, 404, "unknown_model"),
        ({"n": 2}, 422, "invalid_input"),
        ({"max_tokens": 0}, 422, "invalid_input"),
        ({"messages": []}, 422, "invalid_input"),
        ({"messages": ["hello"]}, 422, "invalid_input"),
        ({"stream": "yes"}, 422, "invalid_input"),
        ({"max_sats": 1}, 422, "max_sats_exceeded"),
        ({"max_sats": "1"}, 422, "invalid_input"),
    ],
    ids=str,
)
async def test_what_is_refused_costs_nothing(model: Model, asked: dict[str, Any], status: int, code: str) -> None:
    body = {"model": "loud", "messages": HELLO, **asked}
    answer = await model.web.call("POST", "/v1/chat/completions", body, token=model.session["token"])
    assert (answer[0], answer[1]["error"]["code"]) == (status, code)
    assert await model.balance() == (1000, 0)
    assert model.upstream.asked == []


async def test_tools_and_parts_pass_through_and_the_answer_is_bounded(model: Model) -> None:
    parts: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "look here"}]}]
    tools: list[Any] = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    answer = await model.client().chat.completions.create(model="loud", messages=parts, tools=tools, max_tokens=500)
    calls: Any = answer.choices[0].message.tool_calls
    assert calls[0].function.name == "look"
    (asked,) = model.upstream.asked
    assert (asked["messages"], asked["tools"], asked["max_tokens"]) == (parts, tools, 10)


@pytest.mark.parametrize("streams", [False, True])
async def test_a_model_server_that_is_down_costs_nothing(model: Model, streams: bool) -> None:
    model.upstream.status = 503
    with pytest.raises(openai.APIStatusError) as refused:
        await model.client().chat.completions.create(model="loud", messages=HELLO, stream=streams)
    assert (refused.value.status_code, refused.value.code) == (502, "work_failed")
    assert await model.balance() == (1000, 0)


async def test_a_client_that_hangs_up_pays_for_what_was_said_and_no_hold_is_left(model: Model) -> None:
    model.upstream.hold = asyncio.Event()
    stream = await model.client().chat.completions.create(model="loud", messages=HELLO, stream=True)
    async with asyncio.timeout(20):
        await model.upstream.started.wait()
    await stream.close()
    assert (await model.balance())[1] > 0
    model.upstream.hold.set()
    async with asyncio.timeout(20):
        while (now := await model.balance())[1] > 0:
            await asyncio.sleep(0.02)
    assert now == (994, 0)


async def heard(model: Model, said: list[str | None] | None = None, *, streams: bool = True) -> None:
    """To the end of the answer, as a caller reads it."""
    answer: Any = await model.client().chat.completions.create(model="loud", messages=HELLO, stream=streams)
    if streams:
        async for chunk in answer:
            if said is not None:
                said.append(chunk.choices[0].delta.content)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("goes_wrong", ["silent", "choices are a number", "a delta is a word", "only a role"])
async def test_an_answer_that_says_nothing_costs_nothing(model: Model, goes_wrong: str, streams: bool) -> None:
    model.upstream.goes_wrong = goes_wrong
    with pytest.raises(openai.APIError) as refused:
        await heard(model, streams=streams)
    assert refused.value.code == "work_failed"
    assert await model.balance() == (1000, 0)


async def test_an_answer_that_breaks_off_says_so_and_is_charged_for_what_was_said(model: Model) -> None:
    model.upstream.goes_wrong = "a word"
    said: list[str | None] = []
    with pytest.raises(openai.APIError) as broken:
        await heard(model, said)
    assert said == ["SAY "]
    assert broken.value.code == "answer_interrupted"
    balance, held = await model.balance()
    assert (balance < 1000, held) == (True, 0)


def test_the_client_is_the_registrys_own() -> None:
    assert os.path.sep + "site-packages" + os.path.sep in openai.__file__
