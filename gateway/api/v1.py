"""`/v1`: what the unmodified `openai` client speaks. Errors and answers have OpenAI's shapes, the price is ours."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from gateway import problems
from gateway.api.body import parse_json, read_raw
from gateway.api.l402 import PaidBy, Unpaid, challenged, payer_of
from gateway.api.models import SessionResultView
from gateway.api.session_calls import order
from gateway.api.sessions import refuse_work
from gateway.catalogue.model import OpenAiWork
from gateway.context import GATEWAY
from gateway.ids import new_id
from gateway.jobs.price import Priced
from gateway.problems import Problem
from gateway.v1.chat import Chat
from gateway.v1.question import Question, read_question
from gateway.v1.upstream import Upstream
from gateway.work.openai_worker import INTERRUPTED, OpenAiWorker

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
KINDS = {401: "authentication_error", 402: "insufficient_quota", 429: "rate_limit_error"}
COST, ABSORBED, BALANCE = "X-Boltworks-Cost-Sats", "X-Boltworks-Absorbed-Sats", "X-Boltworks-Balance-Sats"


def error_body(problem: Problem) -> dict[str, Any]:
    """`{"error": {message, type, param, code, …}}`; a 402 also names what is missing, and an invoice for it."""
    status = problem.type.status
    kind = KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    code = "invalid_api_key" if status == 401 else problem.type.code
    message = f"{problem.type.title}. {problem.detail}".strip()
    return {"error": {"message": message, "type": kind, "param": None, "code": code, **problem.extra}}


def error_response(problem: Problem) -> web.Response:
    headers = {"Cache-Control": "no-store", **problem.headers}
    return web.json_response(error_body(problem), status=problem.type.status, headers=headers)


async def models(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    payer = await payer_of(request)
    if isinstance(payer, Unpaid):
        raise await challenged(request, gateway.settings.l402_sats, payer.why)
    offered = [
        {"id": entry.name, "object": "model", "created": 0, "owned_by": "boltworks"}
        for entry in gateway.catalogue.works
        if isinstance(entry, OpenAiWork) and entry.evaluation is None
    ]
    return web.json_response({"object": "list", "data": offered}, headers={"Cache-Control": "no-store"})


async def chat_completions(request: web.Request) -> web.StreamResponse:
    gateway = request.app[GATEWAY]
    payer = await payer_of(request)
    question = read_question(gateway.catalogue, parse_json(await read_raw(request)))
    priced = Priced(question.entry, question.body, question.estimate_sats)
    refuse_work(request, priced, question.max_sats)
    if isinstance(payer, Unpaid):
        raise await challenged(request, priced.estimate_sats, payer.why)
    chat = _chat(request, payer, priced, question)
    chat.start()
    try:
        return await (_streamed(request, chat) if question.streams else _whole(chat))
    except Problem as problem:
        if payer.is_l402 and problem.type is problems.BALANCE_TOO_LOW:
            raise await challenged(request, priced.estimate_sats, problem.detail) from None
        raise


def _chat(request: web.Request, payer: PaidBy, priced: Priced, question: Question) -> Chat:
    gateway = request.app[GATEWAY]
    worker = gateway.workers.get(question.entry.name)
    if not isinstance(worker, OpenAiWorker):
        raise TypeError(f"{question.entry.name} has no openai worker")
    asked = order(request, payer.session["id"], new_id(), priced, spend_sats=payer.spend_sats, room=not payer.is_l402)
    return Chat(gateway, asked, question, Upstream(worker))


async def _whole(chat: Chat) -> web.Response:
    answers = [chunk async for chunk in chat.chunks()]
    bill = await chat.bill()
    return web.json_response(answers[-1], headers={"Cache-Control": "no-store", **_figures(bill)})


async def _streamed(request: web.Request, chat: Chat) -> web.StreamResponse:
    """Cost and balance are known at the end only: they come as a comment before `[DONE]`.

    A refusal before the first chunk is an answer of its own; after it, the stream's last event, and no `[DONE]` comes.
    """
    response: web.StreamResponse | None = None
    async for chunk in chat.chunks():
        if response is None:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
            with contextlib.suppress(ConnectionError):
                await response.prepare(request)
        if chunk.get("choices") or chat.question.counts:
            await _send(response, _event(chunk))
    try:
        bill = await chat.bill()
    except Problem as problem:
        if response is None:
            raise
        await _send(response, _event(error_body(problem)))
        return response
    if response is None:
        raise RuntimeError("a request that was charged said nothing")
    figures = " ".join(f"{name}={value}" for name, value in _figures(bill).items())
    broke_off = bill.result["finishReason"] == INTERRUPTED
    end = _event(error_body(Problem(problems.ANSWER_INTERRUPTED))) if broke_off else "data: [DONE]\n\n"
    await _send(response, f": {figures}\n\n{end}")
    return response


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


async def _send(response: web.StreamResponse, text: str) -> None:
    """A client that has gone does not end the run, which goes on to its usage."""
    with contextlib.suppress(ConnectionError):
        await response.write(text.encode(errors="replace"))


def _figures(bill: SessionResultView) -> dict[str, str]:
    return {COST: str(bill.charged_sats), ABSORBED: str(bill.absorbed_sats), BALANCE: str(bill.balance_sats)}
