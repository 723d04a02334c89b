"""Reading a request's body: bounded, strict JSON that PostgreSQL can keep, checked against its model."""

from __future__ import annotations

import json
import math
import zlib
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.http import HttpProcessingError
from pydantic import BaseModel, ValidationError

from gateway import problems
from gateway.problems import Problem

MAX_BODY_BYTES = 256 * 1024
MAX_DEPTH = 64
MAX_INTEGER_DIGITS = 30

M = TypeVar("M", bound=BaseModel)


async def read_model(request: web.Request, model: type[M]) -> tuple[M, bytes]:
    """The body as `model`, and its raw bytes. Raises Problem; nothing has been written."""
    if request.content_type != "application/json":
        raise Problem(problems.NOT_JSON, "Send the header Content-Type: application/json.")
    raw = await read_raw(request)
    value = parse_json(raw)
    try:
        return model.model_validate(value), raw
    except ValidationError as error:
        raise Problem(problems.INVALID_BODY, _first_error(error), {"errors": _errors(error)}) from None


async def read_raw(request: web.Request) -> bytes:
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Problem(problems.BODY_TOO_LARGE, f"At most {MAX_BODY_BYTES // 1024} KiB are read.") from None
    except (web.RequestPayloadError, HttpProcessingError, zlib.error):
        raise Problem(problems.INVALID_REQUEST, "The body is not encoded as its headers say.") from None
    if len(raw) > MAX_BODY_BYTES:
        raise Problem(problems.BODY_TOO_LARGE, f"At most {MAX_BODY_BYTES // 1024} KiB are read.")
    return raw


def parse_json(raw: bytes) -> Any:
    """Strict JSON: UTF-8, no NaN or infinity, no repeated member, no NUL, no half surrogate, bounded depth and numbers.

    What passes can be stored as jsonb. Raises Problem (`invalid_request`).
    """
    try:
        text = raw.decode("utf-8")
        _refuse_depth(text)
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_bounded,
            object_pairs_hook=_unique_members,
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (UnicodeError, ValueError, RecursionError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeError) else str(error)
        raise Problem(problems.INVALID_REQUEST, f"The body is not usable JSON: {reason}.") from None
    if b"\\u0000" in raw and _holds_nul(value):
        raise Problem(problems.INVALID_REQUEST, "The body holds a NUL character, which cannot be stored.")
    return value


def _refuse_depth(text: str) -> None:
    """Counts brackets outside strings before anything recursive looks at them."""
    depth, inside, escaped = 0, False, False
    for char in text:
        if inside:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                inside = False
        elif char == '"':
            inside = True
        elif char in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        elif char in "]}":
            depth -= 1


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _bounded(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise ValueError("a number is too large")
    return int(digits)


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has a member twice")
    return members


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(_holds_nul(part) for part in value)


def _errors(error: ValidationError) -> list[dict[str, str]]:
    return [
        {"pointer": "/" + "/".join(str(part) for part in e["loc"]), "detail": e["msg"]}
        for e in error.errors(include_url=False, include_input=False, include_context=False)[:10]
    ]


def _first_error(error: ValidationError) -> str:
    first = _errors(error)[0]
    return f"{first['pointer']}: {first['detail']}"
