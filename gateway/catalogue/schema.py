"""Is this input one that the work takes? Asked before anything is priced, paid or written. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from jsonschema.exceptions import ValidationError, best_match

from gateway.catalogue.json_values import JsonLimits, json_fault, pointer
from gateway.catalogue.model import PdfWork, WorkEntry
from gateway.work.pdf_characters import first_unprintable

INPUT_LIMITS = JsonLimits(depth=32, values=20_000)
MAX_ERRORS_COMPARED = 20


@dataclass(frozen=True, slots=True)
class InputFault:
    """`pointer` is a JSON Pointer into the input, in fragment form (`#/text`); `reason` is plain words."""

    pointer: str
    reason: str


def validate_input(entry: WorkEntry, input: Mapping[str, Any]) -> InputFault | None:
    """What is wrong with an input of this work, the most telling fault first; None when it can be sold."""
    if fault := json_fault(input, INPUT_LIMITS):
        return InputFault(pointer(fault.path), fault.reason)
    for validator in entry.validators:
        try:
            error = best_match(islice(validator.iter_errors(input), MAX_ERRORS_COMPARED))
        except RecursionError:
            return InputFault("#", "is nested too deeply for its schema")
        if error is not None:
            return _told(error)
    return _unprintable(input) if isinstance(entry, PdfWork) else None


def _unprintable(input: Mapping[str, Any]) -> InputFault | None:
    for name in ("markdown", "title"):
        text = input.get(name, "")
        index = first_unprintable(text)
        if index is not None:
            character = text[index]
            shown = f"{character!r} (U+{ord(character):04X})" if character.isprintable() else f"U+{ord(character):04X}"
            return InputFault(
                pointer((name,)),
                f"the character {shown} at position {index + 1} is not in the fonts; "
                "Latin, Greek, Cyrillic, Armenian and Georgian text and common symbols are",
            )
    return None


def _told(error: ValidationError) -> InputFault:
    path: tuple[str | int, ...] = tuple(error.absolute_path)
    keyword = str(error.validator)
    wanted: Any = error.validator_value
    found: Any = error.instance
    match keyword:
        case "required":
            missing = next(name for name in wanted if name not in found)
            return InputFault(pointer((*path, missing)), "is missing")
        case "additionalProperties" | "unevaluatedProperties" if wanted is False:
            known = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
            unknown = next((name for name in found if name not in known), "")
            offered = f"; known are {_listed(known)}" if known else ""
            return InputFault(pointer((*path, unknown)), f"is not known here{offered}")
        case "oneOf" | "anyOf" if all(isinstance(one, dict) and set(one) == {"required"} for one in wanted):
            names = [name for one in wanted for name in one["required"]]
            amount = "exactly one" if keyword == "oneOf" else "at least one"
            return InputFault(pointer(path), f"needs {amount} of {_listed(names)}")
    tell = _PLAIN_WORDS.get(keyword)
    return InputFault(pointer(path), tell(wanted) if tell else f"does not fit the schema's {keyword}")


_TYPES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}

_PLAIN_WORDS: dict[str, Callable[[Any], str]] = {
    "type": lambda wanted: "must be " + " or ".join(_TYPES[name] for name in _as_list(wanted)),
    "enum": lambda wanted: f"must be one of {_listed(wanted)}",
    "const": lambda wanted: f"must be {_listed([wanted])}",
    "minLength": lambda wanted: f"must have {wanted} or more characters",
    "maxLength": lambda wanted: f"must have at most {wanted} characters",
    "pattern": lambda wanted: "must not be blank" if wanted == r"\S" else f"must match {wanted}",
    "minimum": lambda wanted: f"must be {wanted} or more",
    "maximum": lambda wanted: f"must be at most {wanted}",
    "exclusiveMinimum": lambda wanted: f"must be more than {wanted}",
    "exclusiveMaximum": lambda wanted: f"must be less than {wanted}",
    "multipleOf": lambda wanted: f"must be a multiple of {wanted}",
    "minItems": lambda wanted: f"must have {wanted} or more items",
    "maxItems": lambda wanted: f"must have at most {wanted} items",
    "uniqueItems": lambda _: "must not have an item twice",
    "minProperties": lambda wanted: f"must have {wanted} or more members",
    "maxProperties": lambda wanted: f"must have at most {wanted} members",
}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _listed(values: Any) -> str:
    shown = [str(value) for value in islice(values, 12)]
    return ", ".join(shown)
