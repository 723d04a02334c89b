"""`bench gate` and `bench node`: a table for people, JSON for programs."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from gateway.bench.gate import run_gate, with_database
from gateway.bench.node import GOALS, run_node
from gateway.settings import Settings
from ledger.embedded import embedded_postgres

NAMES = {
    "usual": "the usual way, 32 connections",
    "insert": "plain inserts, 32 connections",
    "ours1": "ours, 256 callers, one process",
    "ours2": "ours, 256 callers in each of two processes",
}


async def bench_gate(settings: Settings, *, seconds: float, as_json: bool) -> None:
    """On the server of BOLTWORKS_DATABASE_URL, or an embedded one that is thrown away."""

    async def work(dsn: str) -> dict[str, Any]:
        return await run_gate(dsn, seconds=seconds, tell=lambda line: click.echo(line, err=True))

    if settings.database_url is not None:
        report = await with_database(settings.database_url.get_secret_value(), work)
    else:
        from gateway.database import migrate_database

        with tempfile.TemporaryDirectory(prefix="boltworks-bench-") as folder:
            async with embedded_postgres(Path(folder)) as server:
                await migrate_database(server.dsn)
                report = await work(server.dsn)
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    for name, rate in report["rates"].items():
        click.echo(f"{NAMES[name]:45} {rate['perS']:>8,}/s   p50 {rate['p50Ms']:>7} ms   p99 {rate['p99Ms']:>7} ms")
    ratios = report["ratios"]
    click.echo(f"ours is {ratios['ours_to_usual']} × the usual way and {ratios['ours_to_insert']} × plain inserts")


async def bench_node(*, scale: int, as_json: bool) -> None:
    """On nodes, a PostgreSQL and a gateway of its own, thrown away afterwards."""
    with tempfile.TemporaryDirectory(prefix="boltworks-bench-") as folder:
        report = await run_node(Path(folder), scale=scale, tell=lambda line: click.echo(line, err=True))
    if as_json:
        click.echo(json.dumps(report, indent=2))
        return
    for name, value in report["ratios"].items():
        goal = GOALS[name]
        bound = f"at least {goal.at_least}" if goal.at_least is not None else f"at most {goal.at_most}"
        rates = report["perS"].get(name)
        beside = f"   raw {rates['raw']:,}/s, ours {rates['ours']:,}/s" if rates else ""
        met = "met   " if report["met"][name] else "MISSED"
        click.echo(f"{met} {goal.says:56} {value:>8}   {bound}{beside}")
