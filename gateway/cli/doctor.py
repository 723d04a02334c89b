"""`doctor`: each thing that a gateway needs, looked at on its own, with what to do where it is missing."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import aiohttp
import asyncpg
import click

from gateway.catalogue import CatalogueError, load_catalogue
from gateway.database import StartError, database_dsn, migrate_database
from gateway.fiat.rate import BadRate
from gateway.fiat.source import NoAnswer, ask, source_of
from gateway.settings import PREFIX, Settings, SettingsError, load_settings
from gateway.start import open_node
from gateway.work.command_check import why_not
from ledger.database import DATABASE_AWAY
from ledger.money import whole_sats
from lightning.macaroons import BadMacaroon, is_admin_macaroon
from lightning.types import NodeRefused, NodeUnavailable

Level = Literal["ok", "warning", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    subject: str
    level: Level
    says: str


async def examine(*, as_json: bool) -> int:
    """Exit code 0 when nothing is missing."""
    findings: list[Finding] = []
    try:
        settings = load_settings()
    except SettingsError as error:
        findings.append(Finding("settings", "missing", str(error)))
    else:
        findings.append(Finding("settings", "ok", f"data in {settings.data_dir}"))
        for look in LOOKS:
            findings += await look(settings)
    if as_json:
        click.echo(json.dumps({"findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        for finding in findings:
            click.echo(f"{finding.level:8} {finding.subject}: {finding.says}")
    return 1 if any(finding.level == "missing" for finding in findings) else 0


async def _catalogue(settings: Settings) -> list[Finding]:
    try:
        catalogue = load_catalogue(settings.config)
    except CatalogueError as error:
        return [Finding("catalogue", "missing", str(error))]
    findings = [Finding("catalogue", "ok", f"sells {', '.join(work.name for work in catalogue.works)}")]
    if reason := await why_not(catalogue, settings):
        findings.append(Finding("commands", "missing", reason))
    return findings


async def _database(settings: Settings) -> list[Finding]:
    try:
        async with database_dsn(settings) as dsn:
            await migrate_database(dsn)
            conn = await asyncpg.connect(dsn, timeout=10)
            version = await conn.fetchval("show server_version")
            await conn.close()
    except (StartError, *DATABASE_AWAY, asyncpg.PostgresError) as error:
        return [Finding("database", "missing", str(error))]
    kind = "your own" if settings.database_url else "embedded"
    return [Finding("database", "ok", f"PostgreSQL {version}, {kind}, migrated")]


async def _node(settings: Settings) -> list[Finding]:
    try:
        async with open_node(settings) as node, asyncio.timeout(15):
            info = await node.get_info()
            balance = await node.channel_balance()
    except (StartError, TimeoutError, NodeUnavailable, NodeRefused) as error:
        return [Finding("node", "missing", str(error) or "LND did not answer within 15 s")]
    findings = [
        Finding("node", "ok", f"LND {info.version} on {info.network}, block {info.block_height}"),
        _liquidity("inbound", balance.remote_msat, "payers can not pay you: open or buy a channel towards you"),
        _liquidity("outbound", balance.local_msat, "refunds can not be sent: open a channel with your own sats"),
    ]
    if not info.synced_to_chain:
        findings.append(Finding("chain", "missing", "LND is not synced to its chain yet; wait for it"))
    return findings


def _liquidity(side: str, amount_msat: int, when_empty: str) -> Finding:
    sats = whole_sats(amount_msat)
    return Finding(f"{side} liquidity", "ok" if sats else "warning", f"{sats:,} sats" if sats else when_empty)


async def _macaroon(settings: Settings) -> list[Finding]:
    path = settings.lnd_macaroon
    if path is None or not path.is_file():
        return []
    try:
        is_admin = is_admin_macaroon(path.read_bytes())
    except (OSError, BadMacaroon) as error:
        return [Finding("macaroon", "missing", f"{path}: {error}")]
    if is_admin:
        advice = f"{path} can do everything on your node; `boltworks macaroon bake` makes one that can do less"
        return [Finding("macaroon", "warning", advice)]
    return [Finding("macaroon", "ok", "least privilege")]


async def _disk(settings: Settings) -> list[Finding]:
    folder = next(parent for parent in (settings.data_dir, *settings.data_dir.parents) if Path(parent).exists())
    free_gib = shutil.disk_usage(folder).free / 2**30
    if free_gib < 1:
        return [Finding("disk", "warning", f"only {free_gib:.1f} GiB free at {folder}")]
    return [Finding("disk", "ok", f"{free_gib:.0f} GiB free")]


async def _fiat(settings: Settings) -> list[Finding]:
    """Only what is configured; pages do without it, so it is never missing."""
    source = source_of(settings)
    if source is None:
        return []
    async with aiohttp.ClientSession() as session:
        try:
            price = await ask(session, source)
        except (NoAnswer, BadRate) as error:
            return [Finding("fiat prices", "warning", f"{source.host}: {error}")]
    return [Finding("fiat prices", "ok", f"{source.host} says {price:f} {source.currency} for one bitcoin")]


async def _address(settings: Settings) -> list[Finding]:
    if settings.public_url is None:
        return [Finding("address", "warning", f"{PREFIX}PUBLIC_URL is not set; payers are told {settings.base_url}")]
    return [Finding("address", "ok", settings.public_url)]


LOOKS: tuple[Callable[[Settings], Awaitable[list[Finding]]], ...] = (
    _catalogue,
    _database,
    _node,
    _macaroon,
    _disk,
    _address,
    _fiat,
)
