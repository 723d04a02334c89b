"""A deterministic model server of the tests' own, on loopback: it answers in capitals, and counts a word as a token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.catalogue import load_catalogue
from gateway.context import Gateway
from gateway.work import build_workers

PRICE = "price = { per_1k_input_tokens_sats = 1000, per_1k_output_tokens_sats = 1000, max_output_tokens = 10 }"
"""A sat a token: what it cost can be read off."""

FLOOD_CHUNK = 128 * 1024

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

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    hold: asyncio.Event | None = None
    goes_wrong: str = ""
    flood: int = 0
    """So many large chunks come before the words of a stream."""
    started: asyncio.Event = field(default_factory=asyncio.Event)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        if self.status != 200:
            return web.json_response({"error": {"message": "down"}}, status=self.status)
        said = body["messages"][-1]["content"]
        text = said if isinstance(said, str) else " ".join(part.get("text", "") for part in said)
        words = text.upper().split()[: body["max_tokens"]]
        usage = {"prompt_tokens": 2, "completion_tokens": len(words), "total_tokens": 2 + len(words)}
        frame = {"id": "chat-1", "created": 1, "model": body["model"]}
        if not body["stream"]:
            if self.goes_wrong:
                return web.json_response({**frame, "choices": WRONG_CHOICES.get(self.goes_wrong, [])})
            choice = {"index": 0, "message": self._message(body, words), "finish_reason": "stop"}
            return web.json_response({**frame, "object": "chat.completion", "choices": [choice], "usage": usage})
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
        self, request: web.Request, frame: dict[str, Any], words: list[str], usage: dict[str, int]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if self.goes_wrong:
            return await self._go_wrong(request, response, frame)
        for word in ["x" * FLOOD_CHUNK] * self.flood:
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            await self._send(response, {**frame, "object": "chat.completion.chunk", "choices": [choice]})
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
        self, request: web.Request, response: web.StreamResponse, frame: dict[str, Any]
    ) -> web.StreamResponse:
        if self.goes_wrong == "silent":
            await response.write(b"data: [DONE]\n\n")
            return response
        choices = WRONG_CHOICES[self.goes_wrong]
        await self._send(response, {**frame, "object": "chat.completion.chunk", "choices": choices})
        assert request.transport is not None
        request.transport.close()
        return response

    async def _send(self, response: web.StreamResponse, chunk: dict[str, Any]) -> None:
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())


@asynccontextmanager
async def loud_model_server() -> AsyncIterator[LoudModelServer]:
    upstream = LoudModelServer()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", upstream.chat)
    async with TestServer(app) as listening:
        upstream.url = str(listening.make_url("/v1"))
        yield upstream
        if upstream.hold is not None:
            upstream.hold.set()


def add_to(catalogue: Path, base_url: str) -> None:
    """One more work of a gateway: the model `loud`."""
    entry = f'[[work]]\nname = "loud"\nworker = "openai"\nbase_url = "{base_url}"\nmodel = "loud-1"\n{PRICE}\n'
    catalogue.write_text(catalogue.read_text() + entry)


def sell(gateway: Gateway, base_url: str) -> None:
    """By a gateway that runs in this process already."""
    path = gateway.settings.config
    assert path is not None
    add_to(path, base_url)
    gateway.catalogue = load_catalogue(path)
    secret = gateway.settings.worker_secret.get_secret_value()
    gateway.workers = build_workers(gateway.catalogue, gateway.session, secret)
