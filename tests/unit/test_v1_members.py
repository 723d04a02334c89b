"""What a chat request may pass on to the operator's model server; all else is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.problems import Problem
from gateway.v1.members import HANDLED, passed_on

Json = dict[str, Any]

FUNCTION = {
    "name": "look",
    "description": "Looks.",
    "parameters": {"type": "object", "$ref": "#/$defs/a"},
    "strict": True,
}
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
TEXT = [{"type": "text", "text": "hello"}]
IMAGE = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}


def asked(**more: Any) -> Json:
    return {"messages": [{"role": "user", "content": "hello"}], **more}


def said(role: str = "user", content: Any = "hello", **more: Any) -> Json:
    return asked(messages=[{"role": role, "content": content, **more}])


@pytest.mark.parametrize(
    "request_",
    [
        asked(tools=[{"type": "function", "function": FUNCTION}], tool_choice="auto", parallel_tool_calls=False),
        asked(tool_choice={"type": "function", "function": {"name": "look"}}),
        asked(response_format={"type": "json_object"}),
        asked(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "strict": True}}),
        asked(temperature=0.5, top_p=1, seed=7, presence_penalty=-1, frequency_penalty=0.5, user="somebody"),
        asked(stop="end", logprobs=True, top_logprobs=3),
        asked(stop=["end", "stop"]),
        said("system", TEXT),
        said("developer"),
        said("user", TEXT, name="somebody"),
        said("assistant", [*TEXT, {"type": "refusal", "refusal": "no"}]),
        said("assistant", None, tool_calls=[CALL], refusal="no", reasoning_content="because"),
        said("tool", "seen", tool_call_id="1"),
    ],
    ids=str,
)
def test_what_is_known_passes_as_it_is(request_: Json) -> None:
    assert passed_on(request_) == request_


def test_what_is_handled_here_and_what_is_null_is_left_out() -> None:
    handled = dict.fromkeys(HANDLED, 1)
    repeated = {"role": "assistant", "content": None, "audio": None, "annotations": [], "tool_calls": [CALL]}
    passed = passed_on({**handled, "messages": [repeated], "logit_bias": None, "seed": None})
    assert passed == {"messages": [{"role": "assistant", "content": None, "tool_calls": [CALL]}]}


REFUSED: list[tuple[Json, str]] = [
    (asked(api_base="http://10.0.0.1"), "api_base"),
    (asked(base_url="http://10.0.0.1"), "base_url"),
    (asked(api_key="k"), "api_key"),
    (asked(extra_headers={"a": "b"}), "extra_headers"),
    (asked(models=["other"]), "models"),
    (asked(plugins=[{"id": "web"}]), "plugins"),
    (asked(web_search_options={}), "web_search_options"),
    (asked(chat_template="{{ 1 }}"), "chat_template"),
    (asked(mm_processor_kwargs={}), "mm_processor_kwargs"),
    (asked(modalities=["audio"]), "modalities"),
    (asked(functions=[]), "functions"),
    (asked(min_tokens=9), "min_tokens"),
    (asked(**{"x" * 500: 1}), "x" * 80 + "…"),
    (said("user", [*TEXT, IMAGE]), "messages[0].content[1].type"),
    (said("user", [{"type": "input_audio", "input_audio": {}}]), "messages[0].content[0].type"),
    (said("user", [{"type": "file", "file": {}}]), "messages[0].content[0].type"),
    (said("user", [{"type": "refusal", "refusal": "no"}]), "messages[0].content[0].type"),
    (said("user", [{"type": ["text"], "text": "a"}]), "messages[0].content[0].type"),
    (said("user", [{"type": "text", "text": "a", "image_url": "b"}]), "messages[0].content[0].image_url"),
    (said("user", [{"type": "text", "text": {"url": "b"}}]), "messages[0].content[0].text"),
    (said("user", ["hello"]), "messages[0].content[0]"),
    (said("user", {"type": "text"}), "messages[0].content"),
    (said("user", image_url="http://10.0.0.1"), "messages[0].image_url"),
    (said("user", images=["http://10.0.0.1"]), "messages[0].images"),
    (said("user", tool_calls=[CALL]), "messages[0].tool_calls"),
    (said("user", name={"a": 1}), "messages[0].name"),
    (said("assistant", audio={"id": "1"}), "messages[0].audio"),
    (said("assistant", tool_calls=[{**CALL, "type": "custom"}]), "messages[0].tool_calls[0].type"),
    (said("function"), "messages[0].role"),
    (asked(tools=[{"type": "mcp", "server_url": "http://10.0.0.1"}]), "tools[0].server_url"),
    (asked(tools=[{"type": "web_search"}]), "tools[0].type"),
    (asked(tools=[{"type": "function", "function": {"name": "a", "url": "b"}}]), "tools[0].function.url"),
    (
        asked(tools=[{"type": "function", "function": {"name": "a", "parameters": {"not": [{"$ref": "http://a"}]}}}]),
        "tools[0].function.parameters",
    ),
    (asked(tools={}), "tools"),
    (asked(tool_choice={"type": "mcp"}), "tool_choice.type"),
    (asked(response_format={"type": "structural_tag"}), "response_format.type"),
    (asked(response_format={"type": "json_object", "grammar": "a"}), "response_format.grammar"),
    (
        asked(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "file:///a"}}}),
        "response_format.json_schema.schema",
    ),
    (asked(temperature={"url": "a"}), "temperature"),
    (asked(stop=[{"url": "a"}]), "stop"),
    (asked(user={"url": "a"}), "user"),
]


@pytest.mark.parametrize(("request_", "member"), REFUSED, ids=[member[:60] for _, member in REFUSED])
def test_what_is_not_known_is_refused_by_name(request_: Json, member: str) -> None:
    with pytest.raises(Problem) as refused:
        passed_on(request_)
    assert (refused.value.type.code, refused.value.extra) == ("invalid_input", {"param": member})
    assert f"'{member}'" in refused.value.detail
