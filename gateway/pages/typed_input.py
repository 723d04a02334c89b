"""What was typed for a work, with its price."""

from __future__ import annotations

from collections.abc import Mapping

from gateway import problems
from gateway.catalogue import Catalogue, WorkEntry
from gateway.jobs.price import Priced, price
from gateway.pages.forms import FieldError, field_error, read_input
from gateway.problems import Problem


async def priced_form(catalogue: Catalogue, entry: WorkEntry, typed: Mapping[str, str]) -> Priced | FieldError:
    """FieldError: which field is wrong, whether the form or the work's schema says so. Raises Problem."""
    given = read_input(entry.schema_of_input, typed)
    if isinstance(given, FieldError):
        return given
    try:
        return await price(catalogue, entry.name, given)
    except Problem as problem:
        if problem.type is not problems.INVALID_INPUT:
            raise
        pointer = str(problem.extra.get("pointer", ""))
        return field_error(pointer, problem.detail.removeprefix(f"{pointer}: "))
