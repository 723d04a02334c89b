"""A rate, and how it is read from a source's answer. Pure: no clock, no network, no float."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn

SATS_PER_BITCOIN = 100_000_000
LEAST, MOST = Decimal(1), Decimal(10**13)
"""Of a bitcoin's price: an ounce of gold is the largest unit that has a code, the smallest monies are below 10^10."""

_NUMBER = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?")
_POINTER = re.compile(r"(/([^~/]|~[01])*)*")
_PRIVATE_ENDINGS = (".local", ".localhost", ".internal", ".lan", ".home", ".arpa", ".test", ".onion")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


class BadRate(Exception):
    """The source answered, but not with a rate. `str()` is plain words."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_bitcoin` in whole units of `currency` (ISO 4217); `at`: when the source said so.

    `source` is the host's name, or empty when it is nobody's business.
    """

    currency: str
    per_bitcoin: Decimal
    source: str
    at: datetime

    def of(self, amount_sats: int) -> Decimal:
        """What so many sats are worth, not rounded."""
        return amount_sats * self.per_bitcoin / SATS_PER_BITCOIN


def public_name(host: str) -> str:
    """The host as pages name it; empty for a numeric address and for names that lead nowhere from outside."""
    name = host.lower().rstrip(".")
    if "." not in name or ":" in name or name.rpartition(".")[2].isdigit() or name.endswith(_PRIVATE_ENDINGS):
        return ""
    return name


def is_fresh(rate: Rate, now: datetime, max_age_s: int) -> bool:
    return now - rate.at <= timedelta(seconds=max_age_s)


def is_pointer(text: str) -> bool:
    """RFC 6901: empty (the whole answer), or names that each follow a slash."""
    return _POINTER.fullmatch(text) is not None


def rate_in(body: bytes, pointer: str) -> Decimal:
    """The price that stands there, as a number or as the text of one. Raises BadRate."""
    return checked(_at(_read(body), pointer))


def _read(body: bytes) -> Any:
    try:
        return json.loads(body, parse_float=Decimal, parse_int=Decimal, parse_constant=_not_a_number)
    except (ValueError, ArithmeticError, RecursionError):
        raise BadRate("Its answer is not JSON.") from None


def _not_a_number(text: str) -> NoReturn:
    """JSON has no NaN and no Infinity; Python's reader would take them."""
    raise ValueError(text)


def _at(value: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and _INDEX.fullmatch(key) and int(key) < len(value):
            value = value[int(key)]
        else:
            raise BadRate(f"Its answer has nothing at {pointer}.")
    return value


def checked(value: Any) -> Decimal:
    """Raises BadRate for what is no price of a bitcoin."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = Decimal(value)
    if not isinstance(value, Decimal) or not value.is_finite():
        raise BadRate("What it names is not a number.")
    if not LEAST <= value <= MOST:
        raise BadRate("What it names can not be the price of a bitcoin.")
    return value
