"""What the last action did, shown once on the page that follows it: read from the log, never from the address."""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web

from gateway.context import GATEWAY
from gateway.operator.log import Logged
from ledger import sql

_q = sql.load("gateway.pages.operator", "operator.sql")


async def said(request: web.Request) -> Any | None:
    """The action whose number stands in `?did=`; None without, or without such a one."""
    number = request.query.get("did", "")
    if not re.fullmatch("[0-9]{1,18}", number):
        return None
    return await request.app[GATEWAY].pool.fetchrow(_q.action, int(number))


def after(place: str, logged: Logged) -> str:
    """The address that shows it."""
    return f"{place}?did={logged.id}"
