"""What may pass as a JSON value: it can be stored, compared and shown, and is of bounded size. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

Path: TypeAlias = tuple[str | int, ...]

MAX_INTEGER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """How deep and how many values."""

    depth: int = 32
    values: int = 20_000


@dataclass(frozen=True, slots=True)
class JsonFault:
    path: Path
    reason: str


def json_fault(value: Any, limits: JsonLimits) -> JsonFault | None:
    """The first part of the value that cannot pass, or None. Work is bounded by the limits."""
    waiting: list[tuple[Path, Any]] = [((), value)]
    seen = 0
    while waiting:
        path, part = waiting.pop()
        seen += 1
        if seen + len(waiting) > limits.values:
            return JsonFault((), f"has more than {limits.values} values")
        if len(path) > limits.depth:
            return JsonFault(path[:3], f"is nested deeper than {limits.depth} levels")
        if reason := _wrong(part):
            return JsonFault(path, reason)
        waiting.extend(((*path, key), child) for key, child in _children(part))
    return None


def pointer(path: Iterable[str | int]) -> str:
    """The JSON Pointer (RFC 6901) in its fragment form: `#` is the whole value, `#/text` a member of it."""
    return "#" + "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in path)


def text_fault(text: str) -> str | None:
    """PostgreSQL stores neither NUL nor half of a surrogate pair, and neither is text."""
    if "\0" in text:
        return "must not contain the character U+0000"
    if any("\ud800" <= character <= "\udfff" for character in text) and not text.isascii():
        return "must not contain half of a surrogate pair"
    return None


def _wrong(part: Any) -> str | None:
    match part:
        case None | bool():
            return None
        case str():
            return text_fault(part)
        case int():
            return None if abs(part) <= MAX_INTEGER else "must be a smaller number"
        case float():
            return None if math.isfinite(part) else "must be a finite number"
        case dict():
            if not all(isinstance(key, str) for key in part):
                return "must have texts as keys"
            return next((fault for key in part if (fault := text_fault(key))), None)
        case list() | tuple():
            return None
        case _:
            return "must be a JSON value"


def _children(part: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(part, dict):
        yield from part.items()
    elif isinstance(part, list | tuple):
        yield from enumerate(part)
