"""Strict JSON: what passes can be stored, what does not is a refusal with a reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.body import parse_json
from gateway.problems import Problem


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"NaN",
        b'{"a": Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"a": "\\u0000"}',
        b'{"a": "\\ud800"}',
        b'{"a": 1e999}',
        b"9" * 31,
        b"9" * 5000,
        b"[" * 100_000,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[1]]",
    ],
)
def test_refused(raw: bytes) -> None:
    with pytest.raises(Problem) as refusal:
        parse_json(raw)
    assert refusal.value.type.code == "invalid_request"
    assert refusal.value.detail


@pytest.mark.parametrize("raw", [b'{"a": "\\\\u0000"}', b'{"a": "[[[[\\"["}', b'"\xc3\xa9"', b"[1.5, -3, null, true]"])
def test_accepted(raw: bytes) -> None:
    assert parse_json(raw) == json.loads(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(JSON)
def test_ordinary_json_is_read_as_json_reads_it(value: object) -> None:
    text = json.dumps(value)
    if "\\u0000" in text or "\\ud" in text:
        return
    assert parse_json(text.encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        value = parse_json(raw)
    except Problem as problem:
        refusal = problem
    else:
        assert json.dumps(value, ensure_ascii=False).encode()
        return
    assert refusal.type.status == 400
