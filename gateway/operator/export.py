"""Rows as CSV. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any


def csv_text(rows: Sequence[Mapping[str, Any]], *, head: bool = True) -> str:
    """The names of the first row's members, then every row; without rows, nothing."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]))
        if head:
            writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """A spreadsheet must not run what a stranger wrote."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value
