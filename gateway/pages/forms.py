"""A form from a work's input schema, and the input back from the form. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

from gateway.api.body import parse_json
from gateway.pages.details import in_words
from gateway.pages.language import gettext as _
from gateway.problems import Problem

Kind = Literal["textarea", "text", "select", "integer", "number", "checkbox", "json"]

LONG_TEXT = 200
"""A string that may be longer gets a box of several lines."""
PREFIX = "input."
WHOLE = "input"
"""The one field of a schema that names no properties."""
_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
_VERBS = ("must ", "is ", "needs ", "does ")
_LINE_ENDS = re.compile(r"\r\n?")


@dataclass(frozen=True, slots=True)
class Field:
    """One input of the form. `attributes` are HTML's own limits; the server checks them all again."""

    name: str
    key: str
    kind: Kind
    label: str
    hint: str
    required: bool
    value: str
    options: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    error: str = ""

    @property
    def advanced(self) -> bool:
        """Most people leave it alone: it stands folded away."""
        return self.kind == "json" and not self.required


@dataclass(frozen=True, slots=True)
class FieldError:
    """`key` is the property that is wrong; empty: the input as a whole."""

    key: str
    reason: str


def field_error(pointer: str, reason: str) -> FieldError:
    """The schema's word (`#/text`, `must not be blank`) as the field's: a whole sentence beside its input."""
    key = unquote(pointer.removeprefix("#").removeprefix("/").partition("/")[0])
    sentence = f"This {reason}" if reason.startswith(_VERBS) else reason[:1].upper() + reason[1:]
    return FieldError(key.replace("~1", "/").replace("~0", "~"), in_words(sentence.rstrip(".") + "."))


def fields(
    schema: Mapping[str, Any],
    typed: Mapping[str, str] | None,
    example: Mapping[str, Any] | None,
    error: FieldError | None = None,
) -> tuple[Field, ...]:
    """The form's fields with what was typed, or else with the example."""
    example = example or {}
    properties = schema.get("properties") or {}
    if not properties:
        value = _as_json(example) if typed is None else typed.get(WHOLE, "")
        reason = error.reason if error else ""
        return (Field(WHOLE, "", "json", _("Input"), _("As JSON."), True, value, error=reason),)
    required = schema.get("required", [])
    return tuple(
        _field(key, part, key in required, typed, example.get(key, part.get("default")), error)
        for key, part in properties.items()
    )


def _field(
    key: str, part: Mapping[str, Any], required: bool, typed: Mapping[str, str] | None, example: Any, error: Any
) -> Field:
    kind = _kind(part)
    name = PREFIX + key
    return Field(
        name=name,
        key=key,
        kind=kind,
        label=str(part.get("title") or key.replace("_", " ").capitalize()),
        hint=str(part.get("description") or ""),
        required=required,
        value=_shown(kind, example) if typed is None else typed.get(name, ""),
        options=_options(part, required) if kind == "select" else (),
        attributes=_attributes(kind, part),
        error=error.reason if error and error.key == key else "",
    )


def _kind(part: Mapping[str, Any]) -> Kind:
    if part.get("enum"):
        return "select"
    match part.get("type"):
        case "string":
            return "text" if part.get("maxLength", LONG_TEXT + 1) <= LONG_TEXT else "textarea"
        case "integer":
            return "integer"
        case "number":
            return "number"
        case "boolean":
            return "checkbox"
    return "json"


def _shown(kind: Kind, value: Any) -> str:
    if value is None:
        return ""
    if kind == "checkbox":
        return "on" if value else ""
    return value if isinstance(value, str) and kind != "json" else _as_json(value)


def _options(part: Mapping[str, Any], required: bool) -> tuple[str, ...]:
    choices = tuple(_option(choice) for choice in part["enum"])
    return choices if required or "default" in part else ("", *choices)


def _option(choice: Any) -> str:
    return choice if isinstance(choice, str) else _as_json(choice)


def _attributes(kind: Kind, part: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    names = {
        "textarea": {"maxLength": "maxlength", "minLength": "minlength"},
        "text": {"maxLength": "maxlength", "minLength": "minlength"},
        "integer": {"minimum": "min", "maximum": "max"},
        "number": {"minimum": "min", "maximum": "max"},
    }.get(kind, {})
    limits = tuple((html, str(part[name])) for name, html in names.items() if name in part)
    return (*limits, ("step", "any")) if kind == "number" else limits


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def read_input(schema: Mapping[str, Any], typed: Mapping[str, str]) -> dict[str, Any] | FieldError:
    """What the form says, as the work's input; the schema itself is checked by whoever prices it."""
    properties = schema.get("properties") or {}
    if not properties:
        whole = _read_json("", typed.get(WHOLE, ""))
        if isinstance(whole, FieldError):
            return whole
        return whole if isinstance(whole, dict) else FieldError("", _("This must be a JSON object."))
    required = schema.get("required", [])
    values: dict[str, Any] = {}
    for key, part in properties.items():
        kind = _kind(part)
        text = typed.get(PREFIX + key, "")
        if not text and kind != "checkbox" and key not in required:
            continue
        value = _read_value(key, kind, part, text)
        if isinstance(value, FieldError):
            return value
        values[key] = value
    return values


def _read_value(key: str, kind: Kind, part: Mapping[str, Any], text: str) -> Any:
    match kind:
        case "textarea" | "text":
            return _LINE_ENDS.sub("\n", text)
        case "checkbox":
            return bool(text)
        case "select":
            found = [choice for choice in part["enum"] if _option(choice) == text]
            return found[0] if found else FieldError(key, _("Choose one of the list."))
        case "integer":
            whole = _INTEGER.fullmatch(text.strip())
            return int(text) if whole else FieldError(key, _("This must be a whole number."))
        case "number":
            value = _read_json(key, text)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            return value if is_number else FieldError(key, _("This must be a number."))
        case "json":
            return _read_json(key, text)


def _read_json(key: str, text: str) -> Any:
    try:
        return parse_json(text.encode())
    except Problem:
        return FieldError(key, _("This is not JSON that we can read."))
