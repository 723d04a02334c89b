"""`pool show` and `pool topup`: the free-tier pool from the command line. The node is not asked."""

from __future__ import annotations

import json
from typing import Any

import click

from gateway import idempotency
from gateway.api.models import PoolView
from gateway.api.system import read_pool
from gateway.cli.main import stop
from gateway.database import open_database
from gateway.ids import new_id
from gateway.operator.log import COMMAND
from gateway.operator.pool import topup
from gateway.pages.rendering import sats
from gateway.problems import Problem
from gateway.settings import Settings


async def show_pool(settings: Settings, *, as_json: bool) -> None:
    async with open_database(settings) as pool:
        view = await read_pool(pool)
    _tell(view, {}, as_json=as_json)


async def topup_pool(settings: Settings, amount_sats: int, key: str | None, *, as_json: bool) -> None:
    """Out with code 1 when the book refuses it, 2 for a key that is none."""
    try:
        checked = idempotency.checked_key(key)
    except Problem as problem:
        stop(f"--key: {problem.detail or problem.type.title}", code=2)
    async with open_database(settings) as pool:
        try:
            logged = await topup(pool, COMMAND, amount_sats, new_id() if checked is None else f"key:{checked}")
        except Problem as problem:
            stop(f"{problem.type.title}. {problem.detail}".rstrip())
        view = await read_pool(pool)
    if not as_json:
        repeated = "this key topped the pool up before: nothing was booked"
        click.echo(f"booked: {sats(amount_sats)} to the pool" if logged.outcome == "done" else repeated)
    _tell(view, {"amountSats": amount_sats, "booked": logged.outcome == "done"}, as_json=as_json)


def _tell(view: PoolView, more: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(more | view.wire()))
        return
    click.echo(f"it can give          {sats(view.balance_sats):>24}")
    click.echo(f"set aside for work   {sats(view.reserved_sats):>24}")
    click.echo(f"paid today           {sats(view.absorbed_today_sats):>24}")
