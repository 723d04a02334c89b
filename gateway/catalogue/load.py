"""Reading `boltworks.toml`. Every mistake ends in one line: file, key, reason."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.catalogue.explain import explained, key_of
from gateway.catalogue.json_values import JsonLimits, json_fault
from gateway.catalogue.model import Catalogue, WorkEntry
from gateway.catalogue.schema import validate_input
from gateway.catalogue.schema_compile import SchemaMistake

PACKAGED = Path(__file__).parent.parent / "default_catalogue.toml"
MAX_FILE_BYTES = 1_000_000
_SCHEMA_LIMITS = JsonLimits(depth=32, values=20_000)


class CatalogueError(Exception):
    """One plain line: the file, the key (as in `work[1].price.estimate_sats`) and the reason."""


def load_catalogue(path: Path | None) -> Catalogue:
    """The operator's catalogue, or the packaged one with the embedded work. Raises CatalogueError."""
    file = PACKAGED if path is None else path
    table = _read(file)
    for key, reason in _mistakes_in_json(table):
        raise CatalogueError(f"{file}: {key}: {reason}")
    try:
        catalogue = Catalogue.model_validate(table)
    except ValidationError as error:
        key, reason = explained(error, table)
        raise CatalogueError(f"{file}: {key}: {reason}") from None
    for index, entry in enumerate(catalogue.works):
        for key, reason in _mistakes_in_entry(entry):
            raise CatalogueError(f"{file}: {key_of(('work', index, key))}: {reason}")
    return catalogue


def _read(file: Path) -> dict[str, Any]:
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise CatalogueError(f"{file}: cannot be read: {error.strerror or error}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise CatalogueError(f"{file}: is larger than {MAX_FILE_BYTES} bytes")
    try:
        return tomllib.loads(raw.decode(), parse_float=Decimal)
    except UnicodeDecodeError:
        raise CatalogueError(f"{file}: is not UTF-8 text") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise CatalogueError(f"{file}: is not TOML: {' '.join(str(error).split())}") from None


def _mistakes_in_json(table: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Schemas and examples become plain JSON in place (their numbers are not money)."""
    works = table.get("work")
    for index, work in enumerate(works if isinstance(works, list) else []):
        if not isinstance(work, dict):
            continue
        for name in ("input_schema", "example"):
            if not isinstance(work.get(name), dict):
                continue
            work[name] = _plain_numbers(work[name])
            if fault := json_fault(work[name], _SCHEMA_LIMITS):
                yield key_of(("work", index, name, *fault.path)), fault.reason


def _plain_numbers(value: Any) -> Any:
    match value:
        case Decimal():
            return float(value)
        case dict():
            return {key: _plain_numbers(part) for key, part in value.items()}
        case list():
            return [_plain_numbers(part) for part in value]
        case _:
            return value


def _mistakes_in_entry(entry: WorkEntry) -> Iterator[tuple[str, str]]:
    try:
        _ = entry.validators
    except SchemaMistake as mistake:
        yield "input_schema", str(mistake)
        return
    if entry.example is not None and (fault := validate_input(entry, entry.example)):
        yield "example", f"is no input of this work: {fault.pointer} {fault.reason}"
