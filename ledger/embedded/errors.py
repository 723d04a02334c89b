"""The one exception of this package."""

from __future__ import annotations


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot be had. `str()` is one plain line: what failed, where to look, what to do."""
