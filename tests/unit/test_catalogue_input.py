"""What an input is refused for, and where the refusal points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.catalogue import Catalogue, load_catalogue
from gateway.catalogue.json_values import JsonLimits, json_fault
from gateway.catalogue.schema import validate_input

CATALOGUE = """
[[work]]
name = "translate"
worker = "http"
url = "http://127.0.0.1:9000/run"
price = { estimate_sats = 100 }
[work.input_schema]
type = "object"
required = ["text"]
additionalProperties = false
properties.text = { type = "string", maxLength = 20, pattern = "^[a-z ]+$" }
properties."a/b~c" = { type = "integer", minimum = 1 }
properties.tags = { type = "array", maxItems = 2, uniqueItems = true, items = { enum = ["x", "y"] } }

[[work]]
name = "any"
worker = "http"
url = "http://127.0.0.1:9000/run"
price = { estimate_sats = 100 }

[[work]]
name = "tree"
worker = "http"
url = "http://127.0.0.1:9000/run"
price = { estimate_sats = 100 }
input_schema = { type = "object", properties = { child = { "$ref" = "#" } }, additionalProperties = false }

[[work]]
name = "chat"
worker = "openai"
base_url = "http://127.0.0.1:11434/v1"
model = "some-model"
price = { per_1k_input_tokens_sats = 2, per_1k_output_tokens_sats = 6, max_output_tokens = 1024 }

[[work]]
name = "short-chat"
worker = "openai"
base_url = "http://127.0.0.1:11434/v1"
model = "some-model"
price = { per_1k_input_tokens_sats = 2, per_1k_output_tokens_sats = 6, max_output_tokens = 1024 }
input_schema = { type = "object", properties = { prompt = { maxLength = 5 } } }

[[work]]
name = "paper"
worker = "pdf"
price = { per_page_sats = 7 }
"""


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    file: Path = tmp_path_factory.mktemp("catalogue") / "boltworks.toml"
    file.write_text(CATALOGUE, encoding="utf-8")
    return load_catalogue(file)


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"child": value}
    return value


REFUSED = [
    ("translate", {}, "#/text", "is missing"),
    ("translate", {"text": 5}, "#/text", "must be a text"),
    ("translate", {"text": "a" * 21}, "#/text", "must have at most 20 characters"),
    ("translate", {"text": "A"}, "#/text", "must match ^[a-z ]+$"),
    ("translate", {"text": "a", "a/b~c": 0}, "#/a~1b~0c", "must be 1 or more"),
    ("translate", {"text": "a", "a/b~c": True}, "#/a~1b~0c", "must be a whole number"),
    ("translate", {"text": "a", "tags": ["x", "z"]}, "#/tags/1", "must be one of x, y"),
    ("translate", {"text": "a", "tags": ["x", "x"]}, "#/tags", "must not have an item twice"),
    ("translate", {"text": "a", "other": 1}, "#/other", "is not known here; known are text, a/b~c, tags"),
    ("any", {"x": float("nan")}, "#/x", "must be a finite number"),
    ("any", {"x": [1, float("-inf")]}, "#/x/1", "must be a finite number"),
    ("any", {"x": 2**63}, "#/x", "must be a smaller number"),
    ("any", {"x": "a\0b"}, "#/x", "must not contain the character U+0000"),
    ("any", {"x": "\ud800"}, "#/x", "must not contain half of a surrogate pair"),
    ("any", {"\ud800": 1}, "#", "must not contain half of a surrogate pair"),
    ("any", {"x": list(range(30_000))}, "#", "has more than 20000 values"),
    ("any", deep(40), "#/child/child/child", "is nested deeper than 32 levels"),
    ("tree", {"child": {"child": {"wrong": 1}}}, "#/child/child/wrong", "is not known here; known are child"),
    ("chat", {}, "#", "needs exactly one of prompt, messages"),
    ("chat", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "#", "needs exactly one of"),
    ("chat", {"prompt": ""}, "#/prompt", "must have 1 or more characters"),
    ("chat", {"prompt": "a", "max_tokens": 1025}, "#/max_tokens", "must be at most 1024"),
    ("chat", {"prompt": "a", "max_tokens": 0}, "#/max_tokens", "must be 1 or more"),
    ("chat", {"messages": [{"role": "root", "content": "a"}]}, "#/messages/0/role", "must be one of system, user"),
    ("chat", {"messages": [{"role": "user", "content": [1]}]}, "#/messages/0/content", "must be a text"),
    ("short-chat", {"prompt": "too long"}, "#/prompt", "must have at most 5 characters"),
    ("short-chat", {}, "#", "needs exactly one of prompt, messages"),
    ("paper", {}, "#/markdown", "is missing"),
    ("paper", {"markdown": " \n "}, "#/markdown", "must not be blank"),
    ("paper", {"markdown": "a" * 20_001}, "#/markdown", "must have at most 20000 characters"),
    ("paper", {"markdown": "a", "paper": "a3"}, "#/paper", "must be one of a4, letter"),
    ("paper", {"markdown": "ab 漢"}, "#/markdown", "the character '漢' (U+6F22) at position 4 is not in the fonts"),
    ("paper", {"markdown": "a", "title": "\x07"}, "#/title", "the character U+0007 at position 1"),
]


@pytest.mark.parametrize(("work", "work_input", "pointer", "reason"), REFUSED)
def test_refused(catalogue: Catalogue, work: str, work_input: dict[str, Any], pointer: str, reason: str) -> None:
    entry = catalogue.find(work)
    assert entry is not None
    fault = validate_input(entry, work_input)
    assert fault is not None
    assert (fault.pointer, fault.reason[: len(reason)]) == (pointer, reason)


ACCEPTED = [
    ("translate", {"text": "a b", "tags": ["x"]}),
    ("any", {}),
    ("any", {"x": [None, True, 1.5, -(2**63) + 1, {"é": "\U0001f600"}]}),
    ("tree", deep(20)),
    ("chat", {"prompt": "hello", "max_tokens": 1024}),
    ("chat", {"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "a"}]}),
    ("paper", {"markdown": "# Größe → ½\r\n\tЯ\n", "title": "Ω", "paper": "letter"}),
]


@pytest.mark.parametrize(("work", "work_input"), ACCEPTED)
def test_accepted(catalogue: Catalogue, work: str, work_input: dict[str, Any]) -> None:
    entry = catalogue.find(work)
    assert entry is not None
    assert validate_input(entry, work_input) is None


def test_validators_are_compiled_once(catalogue: Catalogue) -> None:
    entry = catalogue.works[0]
    assert entry.validators is entry.validators


def test_limits_bound_wide_and_deep_values() -> None:
    limits = JsonLimits(depth=2, values=5)
    assert json_fault([1, 2, 3, 4], limits) is None
    assert json_fault([1, 2, 3, 4, 5], limits) is not None
    assert json_fault([[1]], limits) is None
    assert json_fault([[[1]]], limits) is not None


@pytest.mark.parametrize(
    ("work", "is_slow"),
    [("translate", True), ("any", False), ("tree", True), ("chat", False)],
)
def test_what_a_small_input_may_keep_busy_is_priced_in_a_thread(catalogue: Catalogue, work: str, is_slow: bool) -> None:
    """Patterns, pairs that are compared, schemas inside themselves."""
    entry = catalogue.find(work)
    assert entry is not None
    assert entry.is_slow_to_price is is_slow
