"""Reading a posted form: bounded, text only, nothing that the database could not keep."""

from __future__ import annotations

import re
import zlib

from aiohttp import web
from aiohttp.http import HttpProcessingError

from gateway import problems
from gateway.problems import Problem

UNREADABLE = (
    ValueError,
    LookupError,
    RuntimeError,
    AssertionError,
    web.RequestPayloadError,
    HttpProcessingError,
    zlib.error,
)
"""What aiohttp raises for bodies that are no form: bad charsets, boundaries, headers, encodings of parts."""


async def read_form(request: web.Request) -> dict[str, str]:
    """The posted form, text only. Raises Problem for what no browser sends from our pages."""
    try:
        posted = await request.post()
    except UNREADABLE as error:
        raise Problem(problems.INVALID_REQUEST, "The form could not be read.") from error
    typed: dict[str, str] = {}
    for name, value in posted.items():
        if not isinstance(value, str) or name in typed:
            raise Problem(problems.INVALID_REQUEST, "The form could not be read.")
        if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise Problem(problems.INVALID_REQUEST, "The text holds a character that can not be kept.")
        typed[name] = value
    return typed


MAX_SATS = 100_000_000
_AMOUNT = re.compile(r"[1-9][0-9]{0,2}(?:[\s,._'’][0-9]{3})+|[0-9]{1,9}")
"""Digits, or thousands parted: what parts anything else may be a decimal point, and `1.5` is not 15."""


def sats_of(text: str) -> int:
    """An amount that a person typed; thousands may be parted. Pure. Raises Problem."""
    typed = text.strip()
    digits = re.sub("[^0-9]", "", typed)
    if not _AMOUNT.fullmatch(typed) or not digits.isascii() or not 1 <= int(digits) <= MAX_SATS:
        raise Problem(problems.INVALID_REQUEST, f"Give a whole number of sats, from 1 to {MAX_SATS:,}.")
    return int(digits)
