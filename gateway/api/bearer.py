"""The bearer token of a request, whatever it opens."""

from __future__ import annotations

from aiohttp import web


def bearer(request: web.Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
