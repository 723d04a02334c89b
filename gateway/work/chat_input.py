"""Reading the input of an `openai` work: `{messages: […]}` or `{prompt: "…"}`, with an optional `max_tokens`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def chat_messages(input: Mapping[str, Any]) -> list[dict[str, str]]:
    if "messages" in input:
        return [{"role": message["role"], "content": message["content"]} for message in input["messages"]]
    return [{"role": "user", "content": input["prompt"]}]


def output_tokens_at_most(input: Mapping[str, Any], max_output_tokens: int) -> int:
    return min(int(input.get("max_tokens", max_output_tokens)), max_output_tokens)
