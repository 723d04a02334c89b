"""A column of a set-wise statement as one text parameter, which the statement takes apart again:

    unnest(string_to_array($1, e'\\x1f'), string_to_array($2, e'\\x1f')::bigint[])

asyncpg asks of every element of an array whether it is an array itself, which costs more than to decide the gate;
PostgreSQL splits a text for next to nothing. So the gate's columns travel like this, made before anything is locked.
"""

from __future__ import annotations

from collections.abc import Sequence

SEPARATOR = "\x1f"


def column(values: Sequence[str]) -> str:
    """ValueError for a value that would not come out as it went in."""
    text = SEPARATOR.join(values)
    if text.count(SEPARATOR) != max(0, len(values) - 1) or (values and not text):
        raise ValueError("an empty value, or one with the separator in it")
    return text


def numbers(values: Sequence[int]) -> str:
    return SEPARATOR.join(map(str, values))


def bytes_column(values: Sequence[bytes]) -> str:
    """In hex: `decode(…, 'hex')`."""
    return SEPARATOR.join([value.hex() for value in values])
