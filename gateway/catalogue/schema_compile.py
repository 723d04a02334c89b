"""An operator's JSON Schema (2020-12), checked and compiled so that nothing outside it is ever fetched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from gateway.catalogue.json_values import pointer

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_PLAIN_DATA = frozenset({"const", "enum", "default", "examples"})
_SLOW = frozenset({"pattern", "patternProperties", "uniqueItems", "contains", "$ref", "$dynamicRef"})
"""What a short input may keep busy for long: expressions that go back and forth, pairs, schemas inside themselves."""
_NAMED_SCHEMAS = frozenset({"properties", "patternProperties", "$defs", "dependentSchemas"})


class SchemaMistake(Exception):
    """One plain line: where in the schema, and what is wrong."""


def compile_schema(schema: dict[str, Any]) -> Validator:
    """A validator for the schema. Raises SchemaMistake."""
    if schema.get("$schema", DIALECT).removesuffix("#") != DIALECT:
        raise SchemaMistake(f"$schema must be {DIALECT}, or absent")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise SchemaMistake(f"{pointer(error.absolute_path)} {_shortened(error.message)}") from None
    resource: Any = DRAFT202012.create_resource(schema)
    resolver = Registry().with_resource("", resource).resolver()
    for keyword, value in _keywords(schema):
        if keyword == "$id":
            raise SchemaMistake("$id is not supported")
        if keyword in ("$ref", "$dynamicRef"):
            _check_reference(resolver, value)
    validator: Validator = Draft202012Validator(schema, registry=Registry())
    try:
        validator.is_valid({})
    except RecursionError:
        raise SchemaMistake("refers to itself without end") from None
    return validator


def has_slow_keyword(schema: dict[str, Any]) -> bool:
    """Whether a small input may take long to check against it. Pure."""
    return any(keyword in _SLOW for keyword, _ in _keywords(schema))


def _keywords(schema: Any) -> Iterator[tuple[str, Any]]:
    """Every keyword of the schema and of the schemas inside it, with its value."""
    if isinstance(schema, list):
        for part in schema:
            yield from _keywords(part)
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        yield keyword, value
        if keyword in _NAMED_SCHEMAS and isinstance(value, dict):
            for part in value.values():
                yield from _keywords(part)
        elif keyword not in _PLAIN_DATA:
            yield from _keywords(value)


def _check_reference(resolver: Any, reference: str) -> None:
    if not reference.startswith("#"):
        raise SchemaMistake(f"$ref {_shortened(repr(reference))} leads out of the schema; only '#…' is followed")
    try:
        resolver.lookup(reference)
    except Unresolvable:
        raise SchemaMistake(f"$ref {_shortened(repr(reference))} leads nowhere") from None


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else line[:159] + "…"
