"""`/docs`: the API's operations, read from the same document as `/openapi.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from aiohttp import web

from gateway.api import openapi
from gateway.context import GATEWAY
from gateway.pages.rendering import render

METHODS = ("get", "post", "put", "delete")


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    kind: str
    required: bool
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    method: str
    path: str
    anchor: str
    summary: str
    access: str
    idempotent: bool
    body: tuple[Member, ...]
    answers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Described:
    """The API at one base URL: `/openapi.json` as it is sent, and what `/docs` shows of it."""

    body: bytes
    operations: tuple[Operation, ...]


@lru_cache(maxsize=8)
def described(base_url: str) -> Described:
    """Made at the first request, and kept: it takes longer than most answers."""
    document = openapi.document(version("boltworks"), base_url)
    return Described(json.dumps(document, ensure_ascii=False).encode(), operations(document))


async def show(request: web.Request) -> web.Response:
    base_url = request.app[GATEWAY].settings.base_url
    return render(request, "docs.html", {"operations": described(base_url).operations, "base_url": base_url})


def operations(document: dict[str, Any]) -> tuple[Operation, ...]:
    """Pure: one entry for each path and method."""
    return tuple(
        _operation(document, method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    )


def _operation(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> Operation:
    parameters = operation.get("parameters", ())
    return Operation(
        method=method.upper(),
        path=path,
        anchor=operation["operationId"],
        summary=operation["summary"].replace("`", ""),
        access=_access(operation["security"]),
        idempotent=any(parameter["name"] == "Idempotency-Key" for parameter in parameters),
        body=_members(document, operation.get("requestBody")),
        answers=tuple(
            (status, answer["description"].replace("`", "")) for status, answer in operation["responses"].items()
        ),
    )


def _access(security: list[dict[str, Any]]) -> str:
    names = {name for way in security for name in way}
    if "token" in names:
        return "the job's token, or proof of payment"
    if "identityToken" in names:
        return "an identity's token, or an event signed with its Nostr key"
    return "a webhook signature" if names else "open to all"


def _members(document: dict[str, Any], body: dict[str, Any] | None) -> tuple[Member, ...]:
    if body is None:
        return ()
    reference = body["content"]["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    required = schema.get("required", ())
    return tuple(
        Member(name, _kind(part), name in required, part.get("description", ""))
        for name, part in schema.get("properties", {}).items()
    )


def _kind(part: dict[str, Any]) -> str:
    if "anyOf" in part:
        return " or ".join(_kind(option) for option in part["anyOf"] if option.get("type") != "null")
    if "const" in part:
        return f'"{part["const"]}"'
    return str(part.get("type") or part.get("$ref", "any").rpartition("/")[2])
