"""What of a chat request may go to the model's server: text, tools that the caller runs himself, and sampling. Pure.

The server is the operator's and is asked with his key. So only what is known here is passed on: nothing that would have
the server fetch an address, ask another model, or read what is no text. A member that is null says nothing and is left
out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from gateway import problems
from gateway.problems import Problem

MAX_MESSAGES = 500
MAX_SHOWN = 80

HANDLED = frozenset(
    (
        *("model", "max_sats", "stream", "stream_options", "max_tokens", "max_completion_tokens"),
        *("n", "best_of", "store", "service_tier"),
    )
)
"""Taken, but not passed on as they are: they are set anew, or left out."""

SAID_BY = {
    "system": frozenset(("content", "name")),
    "developer": frozenset(("content", "name")),
    "user": frozenset(("content", "name")),
    "assistant": frozenset(("content", "name", "refusal", "tool_calls", "reasoning", "reasoning_content")),
    "tool": frozenset(("content", "name", "tool_call_id")),
}
"""Members of a message, by its role."""

NOT_REPEATED = frozenset(("annotations",))
"""Clients send an assistant's message back as it came; this much of it is left out."""

Check = Callable[[Any, str], None]
"""Of a value and where it stands. Raises Problem."""


def wrong(detail: str, member: str | None = None) -> Problem:
    return Problem(problems.INVALID_INPUT, detail, {} if member is None else {"param": member})


def passed_on(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Raises Problem: a member is not taken, or has not the form that is."""
    passed = {name: value for name, value in asked.items() if name not in HANDLED and value is not None}
    passed["messages"] = _messages(asked.get("messages"))
    for name, value in passed.items():
        if name not in CHECKS:
            raise _not_taken(name)
        CHECKS[name](value, name)
    return passed


def _messages(messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not 1 <= len(messages) <= MAX_MESSAGES:
        raise wrong(f"'messages' must be a list of 1 to {MAX_MESSAGES} messages.", "messages")
    if not all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages):
        raise wrong("Each of 'messages' must be an object with a 'role'.", "messages")
    return [
        {
            name: value
            for name, value in message.items()
            if name == "content" or (value is not None and name not in NOT_REPEATED)
        }
        for message in messages
    ]


def _check_messages(messages: Any, at: str) -> None:
    for number, message in enumerate(messages):
        _check_message(message, f"{at}[{number}]")


def _check_message(message: Mapping[str, Any], at: str) -> None:
    role = message["role"]
    if role not in SAID_BY:
        raise wrong(f"'{at}.role' must be one of {', '.join(SAID_BY)}.", f"{at}.role")
    _only({"role", *SAID_BY[role]}, message, at)
    for name, value in message.items():
        where = f"{at}.{name}"
        if name == "content":
            _check_content(value, where, by_the_model=role == "assistant")
        elif name == "tool_calls":
            _check_tool_calls(value, where)
        else:
            _text(value, where)


def _check_content(content: Any, at: str, *, by_the_model: bool) -> None:
    if content is None or isinstance(content, str):
        return
    kinds = ("text", "refusal") if by_the_model else ("text",)
    for part, where in _objects(content, at):
        kind = next((kind for kind in kinds if kind == part.get("type")), None)
        if kind is None:
            raise wrong(f"'{where}.type' must be {' or '.join(kinds)}: only text is taken.", f"{where}.type")
        _only({"type", kind}, part, where)
        _text(part.get(kind), f"{where}.{kind}")


def _check_tool_calls(calls: Any, at: str) -> None:
    for call, where in _objects(calls, at):
        _only({"id", "type", "index", "function"}, call, where)
        _plain(call.get("id"), f"{where}.id")
        _plain(call.get("index"), f"{where}.index")
        _check_function(call, where, {"name", "arguments"})
        _plain(call["function"].get("arguments"), f"{where}.function.arguments")


def _check_tools(tools: Any, at: str) -> None:
    for tool, where in _objects(tools, at):
        _only({"type", "function"}, tool, where)
        _check_function(tool, where, {"name", "description", "parameters", "strict"})
        _plain(tool["function"].get("description"), f"{where}.function.description")
        _plain(tool["function"].get("strict"), f"{where}.function.strict")
        _check_schema(tool["function"].get("parameters"), f"{where}.function.parameters")


def _check_function(tool: Mapping[str, Any], at: str, members: Collection[str]) -> None:
    """Of a tool that the caller runs: others would be run by the server."""
    if tool.get("type") != "function":
        raise wrong(f"'{at}.type' must be function: no other tool is taken.", f"{at}.type")
    function = _object(tool.get("function"), f"{at}.function")
    _only(members, function, f"{at}.function")
    _text(function.get("name"), f"{at}.function.name")


def _check_tool_choice(choice: Any, at: str) -> None:
    if isinstance(choice, str):
        return
    _only({"type", "function"}, _object(choice, at), at)
    _check_function(choice, at, {"name"})


def _check_response_format(format: Any, at: str) -> None:
    _only({"type", "json_schema"}, _object(format, at), at)
    if format.get("type") not in ("text", "json_object", "json_schema"):
        raise wrong(f"'{at}.type' must be text, json_object or json_schema.", f"{at}.type")
    if format.get("json_schema") is not None:
        inner = f"{at}.json_schema"
        schema = _object(format["json_schema"], inner)
        _only({"name", "description", "schema", "strict"}, schema, inner)
        for name in ("name", "description", "strict"):
            _plain(schema.get(name), f"{inner}.{name}")
        _check_schema(schema.get("schema"), f"{inner}.schema")


def _check_schema(schema: Any, at: str) -> None:
    """A reference points into the schema itself: the server must not fetch what it names."""
    if schema is None or isinstance(schema, bool):
        return
    for name, value in _all_members(_object(schema, at)):
        if name in ("$ref", "$dynamicRef") and isinstance(value, str) and not value.startswith("#"):
            raise wrong(f"'{at}' must refer to nothing outside itself ('{name}' begins with '#').", at)


def _all_members(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _all_members(inner)


def _check_stop(stop: Any, at: str) -> None:
    for text in stop if isinstance(stop, list) else [stop]:
        _text(text, at)


def _plain(value: Any, at: str) -> None:
    """Text, a number, true, false or null."""
    if isinstance(value, dict | list):
        raise wrong(f"'{at}' must be no object and no list.", at)


def _text(value: Any, at: str) -> None:
    if not isinstance(value, str):
        raise wrong(f"'{at}' must be text.", at)


def _object(value: Any, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong(f"'{at}' must be an object.", at)
    return value


def _objects(values: Any, at: str) -> Iterator[tuple[dict[str, Any], str]]:
    if not isinstance(values, list):
        raise wrong(f"'{at}' must be a list.", at)
    for number, value in enumerate(values):
        yield _object(value, f"{at}[{number}]"), f"{at}[{number}]"


def _only(members: Collection[str], value: Mapping[str, Any], at: str) -> None:
    for name in value:
        if name not in members:
            raise _not_taken(f"{at}.{name}")


def _not_taken(member: str) -> Problem:
    shown = member if len(member) <= MAX_SHOWN else member[:MAX_SHOWN] + "…"
    return wrong(f"'{shown}' is not taken here.", shown)


CHECKS: dict[str, Check] = {
    "messages": _check_messages,
    "tools": _check_tools,
    "tool_choice": _check_tool_choice,
    "response_format": _check_response_format,
    "stop": _check_stop,
    "user": _text,
    **dict.fromkeys(("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty"), _plain),
    **dict.fromkeys(("parallel_tool_calls", "logprobs", "top_logprobs"), _plain),
}
"""All that is passed on."""
