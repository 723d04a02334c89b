"""SQL stands in `.sql` files beside the code that runs it, as named blocks:

    -- name: lock_job
    -- Why the statement is there.
    select …

`load(__package__, "queries.sql")` gives them as attributes. A test PREPAREs every block.

A block whose name begins with `with_` is a part of other statements (table expressions, columns), which take it in by

    -- include: ledger book.sql with_posting
"""

from __future__ import annotations

import re
from importlib import resources

PART = "with_"
_INCLUDE = re.compile(r"^ *-- include: (\S+) (\S+) (\S+)$", re.MULTILINE)
_HEAD = re.compile(r"^-- name: ([a-z_][a-z0-9_]*)\s*$", re.MULTILINE)


class Queries:
    """Named statements of one file; an unknown name is an AttributeError at once."""

    def __init__(self, blocks: dict[str, str]) -> None:
        self.blocks = blocks

    def __getattr__(self, name: str) -> str:
        try:
            return self.blocks[name]
        except KeyError:
            raise AttributeError(f"no SQL block named {name!r}") from None


def parse(text: str) -> dict[str, str]:
    """Split a file into its named blocks; a name used twice is a ValueError."""
    heads = list(_HEAD.finditer(text))
    blocks: dict[str, str] = {}
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        end = following.start() if following else len(text)
        if head[1] in blocks:
            raise ValueError(f"SQL block {head[1]!r} stands twice")
        blocks[head[1]] = text[head.end() : end].strip()
    return blocks


def load(package: str, file: str = "queries.sql") -> Queries:
    """Raises KeyError for a part that is not there."""
    return Queries({name: with_parts(block) for name, block in _blocks(package, file).items()})


def with_parts(block: str) -> str:
    """The block with what it includes. Raises KeyError for a part that is not there."""
    return _INCLUDE.sub(lambda include: _blocks(include[1], include[2])[include[3]], block)


def _blocks(package: str, file: str) -> dict[str, str]:
    return parse(resources.files(package).joinpath(file).read_text(encoding="utf-8"))
