"""What pydantic found, as an operator would say it: the key as it stands in the file, and a plain reason. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.catalogue.model import Catalogue, CommandWork, HttpWork, OpenAiWork, PdfWork, PoolSettings, Tier

WORKERS: dict[str, type[HttpWork] | type[OpenAiWork] | type[PdfWork] | type[CommandWork]] = {
    "http": HttpWork,
    "openai": OpenAiWork,
    "pdf": PdfWork,
    "command": CommandWork,
}
_PRICE_FORMS = {
    "http": "{ estimate_sats = 100 }",
    "openai": "{ per_1k_input_tokens_sats = 2, per_1k_output_tokens_sats = 6, max_output_tokens = 1024 }",
    "pdf": "{ per_page_sats = 10 }",
    "command": "{ per_cpu_second_sats = 5, max_cpu_s = 20 }",
}
_UNKNOWN_FIRST = "extra_forbidden"


def key_of(path: Iterable[str | int]) -> str:
    """`("work", 1, "price")` as `work[1].price`."""
    key = ""
    for part in path:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
    return key


def explained(error: ValidationError, table: dict[str, Any]) -> tuple[str, str]:
    """Key and reason of the most telling mistake: an unknown key before what its misspelling left missing."""
    errors = error.errors(include_url=False, include_context=True)
    first = next((one for one in errors if one["type"] == _UNKNOWN_FIRST), errors[0])
    path = _path_in_file(first["loc"], table)
    worker = _worker_at(path, table)
    if worker in _PRICE_FORMS and path[2:3] == ("price",) and _is_of_shape(first):
        return key_of(path), f"a work of the worker {worker!r} is priced as {_PRICE_FORMS[worker]}"
    if first["type"] == _UNKNOWN_FIRST:
        return key_of(path), "is not a known key" + _hint(str(path[-1]), _known_keys(path[:-1], worker))
    return key_of(path), _reason(first)


def _path_in_file(location: Sequence[str | int], table: dict[str, Any]) -> tuple[str | int, ...]:
    """pydantic names the branch of a union in its path (`work, 1, http, price`): the file has no such key."""
    path = tuple(location)
    if len(path) > 2 and path[0] == "work" and path[2] == _worker_at(path, table):
        return path[:2] + path[3:]
    return path


def _worker_at(path: Sequence[str | int], table: dict[str, Any]) -> str | None:
    if len(path) < 2 or path[0] != "work" or not isinstance(path[1], int):
        return None
    work = table["work"][path[1]]
    worker = work.get("worker") if isinstance(work, dict) else None
    return worker if isinstance(worker, str) else None


def _is_of_shape(error: ErrorDetails) -> bool:
    return error["type"] in ("missing", _UNKNOWN_FIRST, "model_type", "model_attributes_type")


def _known_keys(path: Sequence[str | int], worker: str | None) -> list[str]:
    model: type[BaseModel] = Catalogue
    if path[:1] == ("pool",):
        model = PoolSettings
    elif path[:1] == ("tier",):
        model = Tier
    elif path[:1] == ("work",) and worker in WORKERS:
        model = WORKERS[worker]
    return [field.alias or name for name, field in model.model_fields.items()]


def _hint(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _reason(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    given = error.get("input")
    match error["type"]:
        case "missing":
            return "is missing"
        case "union_tag_not_found":
            return f"has no worker; known workers are {', '.join(WORKERS)}"
        case "union_tag_invalid":
            tag = str(context.get("tag"))
            return f"there is no worker {tag!r}; known are {', '.join(WORKERS)}" + _hint(tag, WORKERS)
        case "int_type":
            return f"must be a whole number, not {_shown(given)}"
        case "greater_than_equal":
            return f"must be {context['ge']} or more, not {_shown(given)}"
        case "less_than_equal":
            return f"must be at most {context['le']}, not {_shown(given)}"
        case "is_instance_of" | "decimal_type" | "finite_number" | "decimal_parsing":
            return f"must be a number, not {_shown(given)}"
        case "string_type":
            return f"must be a text, not {_shown(given)}"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
        case "too_short" if len(error["loc"]) > 1:
            return "must not be empty"
        case "too_short":
            return "at least one [[work]] is needed"
        case "tuple_type" if len(error["loc"]) > 1:
            return f"must be a list, as in [{_shown(given)}]"
        case "tuple_type":
            return f"must be written as [[{error['loc'][-1]}]]"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"must be a table, not {_shown(given)}"
        case "value_error":
            return str(context["error"])
        case _:
            return error["msg"]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"
