"""Keys in a browser: one cookie per thing that is opened, sent to its own address only."""

from __future__ import annotations

from aiohttp import web

from gateway.context import Gateway

AGE_S = 400 * 86_400
"""The longest that browsers keep: what is owed back waits for ever."""


def give_key(response: web.StreamResponse, gateway: Gateway, name: str, path: str, key: str) -> None:
    response.set_cookie(
        name,
        key,
        path=path,
        max_age=AGE_S,
        httponly=True,
        samesite="Lax",
        secure=gateway.settings.base_url.startswith("https://"),
    )
