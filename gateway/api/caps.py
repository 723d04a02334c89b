"""What a caller allows a call to cost: `maxSats` in the body, `X-Max-Sats` in the header; the less of both counts."""

from __future__ import annotations

import re

from aiohttp import web

from gateway import problems
from gateway.jobs.price import Priced
from gateway.problems import Problem
from gateway.sessions.decisions import lowest_cap


def refuse_above_cap(request: web.Request, priced: Priced, body_sats: int | None) -> None:
    """Before anything is written. The fee of an evaluation counts. Raises Problem."""
    cap_sats = lowest_cap(body_sats, _header_sats(request))
    most_sats = priced.estimate_sats + (priced.entry.evaluation_fee_sats or 0)
    if cap_sats is not None and most_sats > cap_sats:
        detail = f"It may cost {most_sats} sats, you allow {cap_sats}. Nothing was charged."
        raise Problem(problems.MAX_SATS_EXCEEDED, detail, {"estimateSats": most_sats, "maxSats": cap_sats})


def _header_sats(request: web.Request) -> int | None:
    """Raises Problem."""
    text = request.headers.get("X-Max-Sats")
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,16}", text):
        raise Problem(problems.INVALID_REQUEST, "X-Max-Sats is a whole number of sats.")
    return int(text)
