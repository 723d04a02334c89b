"""An invoice as a QR code, drawn as SVG inside the page."""

from __future__ import annotations

from functools import lru_cache

import segno
from markupsafe import Markup


@lru_cache(maxsize=256)
def invoice_qr(payment_request: str) -> Markup:
    """BOLT11 in capitals behind `LIGHTNING:`: the alphanumeric mode gives the smallest code. No style attribute."""
    code = segno.make_qr(f"LIGHTNING:{payment_request.upper()}", error="l", boost_error=False)
    svg = code.svg_inline(dark="#000", light="#fff", omitsize=True, svgclass="qr", lineclass=None)
    return Markup(svg)  # noqa: S704 - drawn here, holds no foreign text
