"""The OpenAPI document follows from the one table of routes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway import problems
from gateway.api import openapi
from gateway.api.models import OpenAiModel
from gateway.api.routes import ROUTES

DOCUMENT = openapi.document("1.2.3", "https://pay.example.org")


def references(part: Any) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*(references(value) for value in part.values()))
    if isinstance(part, list):
        return set().union(*(references(value) for value in part))
    return set()


def test_every_route_is_there_and_no_other() -> None:
    described = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert described == {(route.method, route.path) for route in ROUTES}


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for item in DOCUMENT["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))


def test_every_reference_resolves() -> None:
    for reference in references(DOCUMENT):
        node: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        assert node


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["schemas"]))
def test_every_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(DOCUMENT["components"]["schemas"][name])


def test_the_wire_is_camel_case() -> None:
    foreign = {model.__name__ for model in OpenAiModel.__subclasses__()}  # these speak OpenAI's language
    schemas = [schema for name, schema in DOCUMENT["components"]["schemas"].items() if name not in foreign]
    names = {member for schema in schemas for member in schema.get("properties", {})}
    assert {name for name in names if not re.fullmatch("[a-z][a-zA-Z0-9]*", name)} == set()


def test_codes_are_unique_and_stable_words() -> None:
    codes = [problem.code for problem in problems.ALL]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch("[a-z_]+", code) for code in codes)
    assert all(400 <= problem.status < 600 for problem in problems.ALL)


def test_the_document_is_json() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
