"""Reading an OpenAI chat request: what goes to the model's server, and the most that it may cost. Pure.

`members` says what is passed on. What would multiply the cost, or is ours to decide, is not: `n` is 1, the longest
answer is bounded, how the server streams and bills is not the caller's choice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway import problems
from gateway.catalogue import Catalogue
from gateway.catalogue.estimate import TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST, token_cost_sats
from gateway.catalogue.model import OpenAiWork
from gateway.problems import Problem
from gateway.v1.members import passed_on, wrong


@dataclass(frozen=True, slots=True)
class Question:
    """`body` is what the model's server is asked. `counts`: the caller wants the chunk that says the usage."""

    entry: OpenAiWork
    body: dict[str, Any]
    streams: bool
    counts: bool
    estimate_sats: int
    max_sats: int | None


def read_question(catalogue: Catalogue, asked: Any) -> Question:
    """`asked` is strict JSON of any kind. Raises Problem."""
    if not isinstance(asked, dict):
        raise wrong("The body must be a JSON object.")
    entry = _entry(catalogue, asked.get("model"))
    passed = passed_on(asked)
    if asked.get("n", 1) != 1 or asked.get("best_of", 1) != 1:
        raise wrong("'n' must be 1: one answer is sold at a time.")
    streams = asked.get("stream", False)
    if type(streams) is not bool:
        raise wrong("'stream' must be true or false.")
    options = asked.get("stream_options") or {}
    if not isinstance(options, dict):
        raise wrong("'stream_options' must be an object.")
    output_tokens = _output_tokens(asked, entry.price.max_output_tokens)
    body = {**passed, "model": entry.model, "max_tokens": output_tokens, "stream": streams}
    if streams:
        body["stream_options"] = {"include_usage": True}
    estimate_sats = max(1, token_cost_sats(entry.price, input_tokens_at_most(passed), output_tokens))
    return Question(entry, body, streams, bool(options.get("include_usage")), estimate_sats, _max_sats(asked))


def input_tokens_at_most(passed: Mapping[str, Any]) -> int:
    """All that is passed is text, and a token holds at least one byte of it: its bytes bound its tokens."""
    text_bytes = len(json.dumps(passed, ensure_ascii=False).encode())
    return text_bytes + TOKENS_PER_MESSAGE * len(passed["messages"]) + TOKENS_PER_REQUEST


def _entry(catalogue: Catalogue, model: Any) -> OpenAiWork:
    entry = catalogue.find(model) if isinstance(model, str) else None
    if not isinstance(entry, OpenAiWork) or entry.evaluation is not None:
        raise Problem(problems.UNKNOWN_MODEL, "See GET /v1/models for what is offered.")
    return entry


def _output_tokens(asked: Mapping[str, Any], at_most: int) -> int:
    wanted = [asked[name] for name in ("max_tokens", "max_completion_tokens") if asked.get(name) is not None]
    if any(type(tokens) is not int or tokens < 1 for tokens in wanted):
        raise wrong("'max_tokens' must be a whole number from 1.")
    return min((*map(int, wanted), at_most))


def _max_sats(asked: Mapping[str, Any]) -> int | None:
    cap_sats = asked.get("max_sats")
    if cap_sats is None:
        return None
    if type(cap_sats) is not int or cap_sats < 0:
        raise wrong("'max_sats' must be a whole number of sats.")
    return cap_sats
