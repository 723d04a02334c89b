"""`/v1` by the unmodified `openai` client, in front of a deterministic model server of the test's own on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest
import pytest_asyncio

from gateway.v1 import hand_over
from tests.loud_model import LoudModelServer, loud_model_server, sell
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web


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
    async with loud_model_server() as upstream:
        sell(web.gateway, upstream.url)
        status, session = await web.call("POST", "/api/sessions", {"depositSats": 1000})
        assert status == 201, session
        web.pay(session)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                _, seen = await web.call("GET", "/api/sessions/current", token=session["token"])
                if seen["state"] == "active":
                    break
                await asyncio.sleep(0.02)
        yield Model(web, upstream, session)


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


@pytest.mark.parametrize(
    ("asked", "member"),
    [
        ({"api_base": "http://10.0.0.1"}, "api_base"),
        ({"plugins": [{"id": "web"}]}, "plugins"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a"}}]}]},
            "messages[0].content[0].type",
        ),
        ({"tools": [{"type": "mcp", "server_url": "http://a"}]}, "tools[0].server_url"),
    ],
    ids=str,
)
@pytest.mark.parametrize("streams", [False, True])
async def test_what_is_not_known_never_reaches_the_model_server(
    model: Model, asked: dict[str, Any], member: str, streams: bool
) -> None:
    body: dict[str, Any] = {"messages": HELLO, **asked}
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        await model.client().chat.completions.create(model="loud", messages=[], stream=streams, extra_body=body)
    assert (refused.value.code, refused.value.param) == ("invalid_input", member)
    assert member in refused.value.message
    assert await model.balance() == (1000, 0)
    assert model.upstream.asked == []


async def test_an_answer_can_be_sent_back_as_it_came(model: Model) -> None:
    tools: list[Any] = [{"type": "function", "function": {"name": "look"}}]
    answer = await model.client().chat.completions.create(model="loud", messages=HELLO, tools=tools)
    (call,) = answer.choices[0].message.tool_calls or []
    seen: Any = {"role": "tool", "tool_call_id": call.id, "content": "a cat"}
    again: list[Any] = [*HELLO, answer.choices[0].message, seen]
    await model.client().chat.completions.create(model="loud", messages=again, temperature=0.5, stop=["end"])
    asked = model.upstream.asked[1]
    assert asked["messages"][1]["tool_calls"][0]["function"] == {"name": "look", "arguments": "{}"}
    assert (asked["messages"][2], asked["temperature"], asked["stop"]) == (seen, 0.5, ["end"])


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
    async with asyncio.timeout(PATIENCE_S):
        await model.upstream.started.wait()
    await stream.close()
    assert (await model.balance())[1] > 0
    model.upstream.hold.set()
    async with asyncio.timeout(PATIENCE_S):
        while (now := await model.balance())[1] > 0:
            await asyncio.sleep(0.02)
    assert now == (994, 0)


def never_read(model: Model) -> socket.socket:
    """A stream that is asked for by somebody with a small receive window, who then reads none of it."""
    at = model.web.gateway.settings
    body = json.dumps({"model": "loud", "messages": HELLO, "stream": True}).encode()
    head = [
        "POST /v1/chat/completions HTTP/1.1",
        "Host: gateway",
        f"Authorization: Bearer {model.session['token']}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((at.listen_host, at.listen_port))
    client.sendall("\r\n".join([*head, "", ""]).encode() + body)
    return client


async def test_a_client_that_never_reads_holds_no_slot_and_is_charged(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand_over, "CLIENT_PATIENCE_S", 0.2)
    model.web.gateway.session_runs.slots = asyncio.Semaphore(1)
    model.upstream.flood = 200
    with never_read(model):
        async with asyncio.timeout(PATIENCE_S):
            while not model.upstream.asked:
                await asyncio.sleep(0.02)
            await model.client().chat.completions.create(model="loud", messages=HELLO)
            while (now := await model.balance())[1] > 0:
                await asyncio.sleep(0.02)
    assert now == (988, 0)


@pytest.mark.parametrize("limit", ["entry", "gateway"])
async def test_a_model_that_never_ends_is_stopped_and_what_it_said_is_charged(
    model: Model, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    gateway = model.web.gateway
    entry = gateway.catalogue.find("loud")
    assert entry is not None
    shortened = (gateway.settings, "work_timeout_s") if limit == "gateway" else (entry, "timeout_s")
    monkeypatch.setitem(vars(shortened[0]), shortened[1], 0.3)
    model.upstream.hold = asyncio.Event()
    said: list[str | None] = []
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(openai.APIError) as stopped:
            await heard(model, said)
    assert (said, stopped.value.code) == (["SAY "], "answer_interrupted")
    balance, held = await model.balance()
    assert (balance < 1000, held) == (True, 0)


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
