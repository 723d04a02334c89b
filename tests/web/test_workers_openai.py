"""The `openai` worker against a small deterministic model server on loopback.

The server is no language model: it answers with the words of the question in capitals, counts one token per
word, and streams one token per event, so that every count in these tests can be checked by hand.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.catalogue.estimate import estimate_sats
from gateway.catalogue.model import OpenAiWork
from gateway.work.openai_worker import OpenAiWorker
from gateway.work.worker import Done, WorkFailed, WorkOrder


@dataclass
class CapitalsModelServer:
    """Deterministic stand-in for a model server; the flags choose what goes wrong."""

    counts_usage: bool = True
    streams: bool = True
    status: int = 200
    resets_before_text: int = 0
    hangs_up_after_words: int | None = None
    error_after_words: int | None = None
    silent: bool = False
    hold: asyncio.Event | None = None
    ends_with: str = "\n"
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append((dict(request.headers), body))
        self.arrived.set()
        if len(self.asked) <= self.resets_before_text:
            self._reset(request)
        if self.status != 200:
            return web.json_response({"error": {"message": "internal"}}, status=self.status)
        asked = " ".join(message["content"] for message in body["messages"]).split()
        words = [] if self.silent else [word.upper() for word in asked][: body["max_tokens"]]
        finish = "length" if len(words) < len(asked) else "stop"
        usage = {"prompt_tokens": len(asked), "completion_tokens": len(words)} if self.counts_usage else None
        if not self.streams:
            choice = {"message": {"role": "assistant", "content": " ".join(words)}, "finish_reason": finish}
            return web.json_response({"choices": [choice], "usage": usage})
        return await self._stream(request, words, finish, usage)

    async def _stream(
        self, request: web.Request, words: list[str], finish: str, usage: dict[str, int] | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": a comment\n\n")
        for index, word in enumerate(words):
            if index == self.hangs_up_after_words:
                assert request.transport is not None
                request.transport.close()
                return response
            if index == self.error_after_words:
                await self._send(response, {"error": {"message": "overloaded"}})
                return response
            await self._send(response, {"choices": [{"delta": {"content": word if index == 0 else " " + word}}]})
        if self.hold is not None:
            await self.hold.wait()
        await self._send(response, {"choices": [{"delta": {}, "finish_reason": finish}], "usage": None})
        if usage:
            await self._send(response, {"choices": [], "usage": usage})
        await response.write(b"data: [DONE]" + self.ends_with.encode())
        return response

    async def _send(self, response: web.StreamResponse, chunk: dict[str, Any]) -> None:
        await response.write(b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\r\n\r\n")

    def _reset(self, request: web.Request) -> None:
        assert request.transport is not None
        request.transport.abort()


@dataclass
class World:
    server: CapitalsModelServer
    entry: OpenAiWork
    worker: OpenAiWorker

    async def run(self, **work_input: Any) -> Done | WorkFailed:
        return await self.worker.run(WorkOrder("job-1", self.entry, work_input, 100, 1))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    model = CapitalsModelServer()
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/chat/completions", model.chat)
    server = TestServer(app)
    await server.start_server()
    price = {"per_1k_input_tokens_sats": 200, "per_1k_output_tokens_sats": 600, "max_output_tokens": 50}
    table = {"name": "chat", "worker": "openai", "model": "capitals", "price": price, "timeout_s": 5}
    entry = OpenAiWork.model_validate({**table, "base_url": str(server.make_url("/v1/"))})
    async with aiohttp.ClientSession() as session:
        yield World(model, entry, OpenAiWorker(session, "the-key", retry_delays_s=(0.0, 0.0, 0.0)))
    await server.close()


def finished(done: Done | WorkFailed) -> tuple[str, str, dict[str, Any], int]:
    assert isinstance(done, Done)
    return done.result["text"], done.result["finishReason"], done.result["usage"], done.cost_sats


def used(input_tokens: int, output_tokens: int, metered: str = "usage") -> dict[str, Any]:
    return {"inputTokens": input_tokens, "outputTokens": output_tokens, "metered": metered}


async def test_text_is_gathered_and_charged_by_usage(world: World) -> None:
    done = await world.run(prompt="one two größe four")
    assert finished(done) == ("ONE TWO GRÖSSE FOUR", "stop", used(4, 4), 4)
    assert isinstance(done, Done)
    assert done.result["model"] == "capitals"
    ((headers, body),) = world.server.asked
    assert headers["Authorization"] == "Bearer the-key"
    assert body == {
        "model": "capitals",
        "messages": [{"role": "user", "content": "one two größe four"}],
        "max_tokens": 50,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_messages_and_a_shorter_answer(world: World) -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a b c"}]
    done = await world.run(messages=messages, max_tokens=2)
    assert finished(done) == ("BE BRIEF", "length", used(5, 2), 3)
    assert world.server.asked[0][1]["messages"] == messages


async def test_the_actual_cost_stays_below_the_estimate(world: World) -> None:
    work_input = {"prompt": "word " * 60}
    text, reason, usage, cost_sats = finished(await world.run(**work_input))
    assert (reason, usage) == ("length", used(60, 50))
    assert len(text.split()) == 50
    assert cost_sats == 42 < estimate_sats(world.entry, work_input)


async def test_a_server_that_does_not_stream(world: World) -> None:
    world.server.streams = False
    assert finished(await world.run(prompt="a b")) == ("A B", "stop", used(2, 2), 2)


async def test_a_stream_without_a_last_line_end(world: World) -> None:
    world.server.ends_with = ""
    assert finished(await world.run(prompt="a b")) == ("A B", "stop", used(2, 2), 2)


async def test_without_usage_an_eighth_of_the_bytes_is_charged(world: World) -> None:
    world.server.counts_usage = False
    asked = "abcdefg " * 10
    text, reason, usage, cost_sats = finished(await world.run(prompt=asked))
    assert (text, reason) == (asked.upper().strip(), "stop")
    assert (usage, cost_sats) == (used(10, 10, "text"), 8)


async def test_without_text_the_work_failed(world: World) -> None:
    world.server.silent = True
    assert await world.run(prompt="a") == WorkFailed("The model answered with no text.")
    assert len(world.server.asked) == 1


@pytest.mark.parametrize("status", [302, 400, 401, 429, 500])
async def test_a_refusal_fails_at_once_and_repeats_nothing_of_it(world: World, status: int) -> None:
    world.server.status = status
    assert await world.run(prompt="a") == WorkFailed(f"The model server refused the request (HTTP {status}).")
    assert len(world.server.asked) == 1


async def test_a_reset_before_any_text_is_tried_again(world: World) -> None:
    world.server.resets_before_text = 2
    assert finished(await world.run(prompt="a b"))[0] == "A B"
    assert len(world.server.asked) == 3


async def test_resets_without_end_are_a_failure(world: World) -> None:
    world.server.resets_before_text = 99
    assert await world.run(prompt="a b") == WorkFailed("The model server could not be reached.")
    assert len(world.server.asked) == 4


async def test_a_run_that_streamed_and_broke_is_complete_and_charged_for_its_text(world: World) -> None:
    world.server.error_after_words = 2
    text, reason, usage, cost_sats = finished(await world.run(prompt="abcdefg hijklmn opqrstu"))
    assert (text, reason) == ("ABCDEFG HIJKLMN", "interrupted")
    assert (usage, cost_sats) == (used(3, 2, "text"), 2)
    assert len(world.server.asked) == 1


async def test_a_stream_cut_off_is_not_run_twice(world: World) -> None:
    world.server.hangs_up_after_words = 40
    outcome = await world.run(prompt="word " * 45)
    assert len(world.server.asked) == 1
    text, reason, _, _ = finished(outcome)
    assert reason == "interrupted"
    assert text.split() == ["WORD"] * 40


async def test_an_error_before_any_text_is_a_failure(world: World) -> None:
    world.server.error_after_words = 0
    assert await world.run(prompt="a b") == WorkFailed("The model server broke off its answer.")


async def test_a_server_that_stalls_after_its_text_is_charged_for_it(world: World) -> None:
    world.server.hold = asyncio.Event()
    world.entry = world.entry.model_copy(update={"timeout_s": 1})
    text, reason, _, _ = finished(await world.run(prompt="a b"))
    assert (text, reason) == ("A B", "interrupted")
    world.server.hold.set()


async def test_an_endless_answer_is_cut_and_charged(world: World) -> None:
    world.worker = OpenAiWorker(world.worker.session, None, max_answer_bytes=1500)
    text, reason, usage, _ = finished(await world.run(prompt="word " * 50))
    assert reason == "interrupted"
    assert usage["metered"] == "text"
    assert 0 < len(text.split()) < 50


async def test_text_that_cannot_be_stored_is_mended(world: World) -> None:
    world.server.streams = False
    done = await world.run(prompt="a\0b \ud800c")
    assert finished(done)[0] == "A\ufffdB ?C"


async def test_without_a_key_no_key_is_sent(world: World) -> None:
    world.worker = OpenAiWorker(world.worker.session)
    await world.run(prompt="a")
    assert "Authorization" not in world.server.asked[0][0]


async def test_a_cancelled_run_hangs_up(world: World) -> None:
    world.server.hold = asyncio.Event()
    run = asyncio.create_task(world.run(prompt="a b"))
    await world.server.arrived.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    world.server.hold.set()
    assert world.worker.session.connector is not None
    assert not world.worker.session.connector._acquired


def test_a_worker_does_not_print_its_key() -> None:
    assert "the-key" not in repr(OpenAiWorker(None, "the-key"))  # type: ignore[arg-type]
