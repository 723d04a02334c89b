"""`/openapi.json`, made from the table of routes and their models."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.api.models import ProblemView
from gateway.api.routes import ROUTES, Route
from gateway.problems import INTERNAL, ProblemType

REF = "#/components/schemas/{model}"


def document(version: str, base_url: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "boltworks",
            "version": version,
            "description": "Work for sats. Amounts are integer sats; errors are RFC 9457 problems with a stable code.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": base_url}],
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": _SECURITY_SCHEMES},
    }


_SECURITY_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "The job's token."},
    "sessionToken": {"type": "http", "scheme": "bearer", "description": "The session's token."},
    "l402": {"type": "http", "scheme": "l402", "description": "A paid token and its preimage: `<token>:<preimage>`."},
    "operatorKey": {"type": "http", "scheme": "bearer", "description": "BOLTWORKS_OPERATOR_KEY."},
    "preimage": {"type": "apiKey", "in": "header", "name": "X-Payment-Preimage"},
    "paymentRequest": {"type": "apiKey", "in": "header", "name": "X-Payment-Request"},
    "identityToken": {"type": "http", "scheme": "bearer", "description": "The token of a login."},
    "nostr": {"type": "http", "scheme": "nostr", "description": "NIP-98: the base64 of an event signed for this call."},
    "webhookSignature": {"type": "apiKey", "in": "header", "name": "webhook-signature"},
}
_SECURITY: dict[str, list[dict[str, list[str]]]] = {
    "open": [],
    "job": [{"token": []}, {"preimage": [], "paymentRequest": []}],
    "identity": [{"identityToken": []}, {"nostr": []}],
    "session": [{"sessionToken": []}],
    "owner": [{"sessionToken": []}, {"l402": []}],
    "paid": [{"sessionToken": []}, {"l402": []}],
    "operator": [{"operatorKey": []}],
    "webhook": [{"webhookSignature": []}],
}


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "security": _SECURITY[route.access],
        "responses": _responses(route),
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    for name in route.query:
        parameters.append({"name": name, "in": "query", "required": True, "schema": {"type": "string"}})
    if route.idempotent:
        schema = {"type": "string", "minLength": 20, "maxLength": 255}
        parameters.append({"name": "Idempotency-Key", "in": "header", "required": False, "schema": schema})
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        content = {"application/json": {"schema": _ref(route.body)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _responses(route: Route) -> dict[str, Any]:
    success: dict[str, Any] = {"description": route.summary}
    if route.answer is not None:
        success["content"] = {route.media: {"schema": _ref(route.answer)}}
    elif route.media != "application/json":
        success["content"] = {route.media: {"schema": {"type": "string"}}}
    responses: dict[str, Any] = {str(route.status): success}
    by_status: dict[int, list[ProblemType]] = {}
    for problem in (*route.problems, INTERNAL):
        by_status.setdefault(problem.status, []).append(problem)
    for status, types in sorted(by_status.items()):
        responses[str(status)] = _problem_response(types) if route.errors is None else _error_response(route, types)
    return responses


def _problem_response(types: Iterable[ProblemType]) -> dict[str, Any]:
    known = list(types)
    schema = {
        "allOf": [_ref(ProblemView)],
        "properties": {"code": {"type": "string", "enum": [problem.code for problem in known]}},
    }
    return {
        "description": "; ".join(f"`{problem.code}`: {problem.title}" for problem in known),
        "content": {"application/problem+json": {"schema": schema}},
    }


def _error_response(route: Route, types: Iterable[ProblemType]) -> dict[str, Any]:
    """Of an endpoint whose errors have a shape of their own."""
    described = "; ".join(f"`{problem.code}`: {problem.title}" for problem in types)
    assert route.errors is not None
    return {"description": described, "content": {"application/json": {"schema": _ref(route.errors)}}}


def _models() -> set[type[BaseModel]]:
    named = {model for route in ROUTES for model in (route.answer, route.body, route.errors) if model is not None}
    return named | {ProblemView}


def _schemas() -> dict[str, Any]:
    ordered = sorted(_models(), key=lambda model: model.__name__)
    pairs: list[tuple[type[BaseModel], Any]] = [(model, "validation") for model in ordered]
    _, definitions = models_json_schema(pairs, by_alias=True, ref_template=REF)
    return dict(definitions["$defs"])


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}
