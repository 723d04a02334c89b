"""A result as a download, whatever it is: a browser never renders it as ours."""

from __future__ import annotations

from aiohttp import web

from gateway.pages.result import Shown


def download(found: Shown) -> web.Response:
    headers = {
        "Content-Disposition": found.disposition,
        "Content-Type": found.media_type,
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "no-store",
    }
    return web.Response(body=found.body, headers=headers)
