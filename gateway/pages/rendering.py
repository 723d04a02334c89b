"""Templates and static files: found, rendered, and sent with headers that let nothing foreign in."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import web

from gateway.context import GATEWAY
from gateway.pages.fiat import fiat_beside, fiat_note
from gateway.pages.language import exact_sats, gettext, ngettext, number, pgettext, read_languages, sats, spoken, utc
from gateway.pages.language_choice import LANGUAGES, switch_links
from gateway.pages.prices import one_price

__all__ = ["ASSETS", "CSP", "VIEWER", "number", "render", "rfc3339", "sats", "set_up", "static", "utc"]

CSP = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
FOR_EVER = "public, max-age=31536000, immutable"
VIEWER: web.RequestKey[str | None] = web.RequestKey("viewer", str)
"""In the request: the Nostr key that looks at the page, once it is known."""


@dataclass(frozen=True, slots=True)
class Asset:
    body: bytes
    content_type: str


ASSETS: web.AppKey[Mapping[str, Asset]] = web.AppKey("assets", Mapping[str, Asset])
"""By the name that stands in the URL: `style.<content hash>.css`."""


def templates_folder() -> Path:
    """In an installed wheel they lie inside the package, in a checkout beside it."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


def set_up(app: web.Application) -> None:
    folder = templates_folder()
    urls, assets = _read_assets(folder / "static")
    app[ASSETS] = assets
    app[LANGUAGES] = read_languages(folder / "locale")
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {"sats": sats, "number": number, "utc": utc, "rfc3339": rfc3339}
    filters |= {"short_key": short_key, "exact_sats": exact_sats}
    environment.filters.update(filters)
    environment.add_extension("jinja2.ext.i18n")
    environment.policies["ext.i18n.trimmed"] = True
    environment.install_gettext_callables(gettext, ngettext, newstyle=True, pgettext=pgettext)  # type: ignore[attr-defined]
    environment.globals.update(static=urls.__getitem__, version=version("boltworks"))
    rate = app[GATEWAY].fiat
    environment.filters["fiat"] = lambda amount_sats: fiat_beside(amount_sats, rate.current)
    environment.filters["one_price"] = one_price
    environment.globals["fiat_note"] = lambda: fiat_note(rate.current)
    app.on_response_prepare.append(_guard)


def _read_assets(folder: Path) -> tuple[dict[str, str], dict[str, Asset]]:
    urls: dict[str, str] = {}
    assets: dict[str, Asset] = {}
    for path in sorted(folder.iterdir()):
        body = path.read_bytes()
        name = f"{path.stem}.{hashlib.sha256(body).hexdigest()[:12]}{path.suffix}"
        urls[path.name] = f"/static/{name}"
        assets[name] = Asset(body, mimetypes.types_map.get(path.suffix, "application/octet-stream"))
    return urls, assets


async def static(request: web.Request) -> web.Response:
    asset = request.app[ASSETS].get(request.match_info["file"])
    if asset is None:
        raise web.HTTPNotFound
    charset = "utf-8" if asset.content_type.startswith("text/") else None
    return web.Response(
        body=asset.body, content_type=asset.content_type, charset=charset, headers={"Cache-Control": FOR_EVER}
    )


async def _guard(request: web.Request, response: web.StreamResponse) -> None:
    """On every answer: no sniffing, no referrer to others; on HTML: only our own files, no frames."""
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    if response.content_type == "text/html":
        response.headers["Content-Security-Policy"] = CSP


def render(
    request: web.Request,
    template: str,
    context: Mapping[str, Any],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """The page in the language that is spoken; never cached."""
    language = spoken()
    shown = {"viewer": request.get(VIEWER), "language": language, "switch": switch_links(request), **context}
    response = aiohttp_jinja2.render_template(template, request, shown, status=status)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Language"] = language.code
    response.headers.update(headers or {})
    return response


def short_key(pubkey: str) -> str:
    """`f9308a01…36f9`."""
    return f"{pubkey[:8]}…{pubkey[-4:]}"


def rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
