"""`/pool`: the free-tier pool and its book, without a word on whom it paid for."""

from __future__ import annotations

from aiohttp import web

from gateway.api.system import pool_view
from gateway.context import GATEWAY
from gateway.jobs.gate import standing
from gateway.pages.details import N_
from gateway.pages.language import gettext as _
from gateway.pages.login import page_identity
from gateway.pages.rendering import render
from ledger import book
from ledger.transfers import POOL

SHOWN = 100

WORDS = {
    "topup": N_("The operator gave"),
    "settlement": N_("A donation"),
    "refund_donated": N_("A small refund, given by its owner"),
    "pool_share": N_("Share of what users were charged"),
    "reserve": N_("Set aside for work"),
    "release": N_("Set aside and not used"),
}
MOVED = N_("Moved")


async def show(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    pubkey = await page_identity(gateway, request)
    async with gateway.pool.acquire() as conn:
        rows = await book.moves(conn, POOL, SHOWN)
    moves = [
        (_(WORDS.get(row["cause_kind"], MOVED)), row["created_at"], row["into_it"], row["amount_msat"]) for row in rows
    ]
    context = {
        "pool": await pool_view(gateway),
        "standing": await standing(gateway, pubkey) if pubkey else None,
        "moves": moves,
    }
    return render(request, "pool.html", context)
