"""How a process is put together: database, node, workers, in one stack that closes in order."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from gateway.catalogue import Catalogue
from gateway.context import Gateway
from gateway.database import StartError, open_database
from gateway.settings import PREFIX, Settings
from gateway.work import build_workers, command_check
from ledger.database import Pool
from lightning.lnd import LndNode
from lightning.macaroons import is_admin_macaroon

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_node(settings: Settings) -> AsyncIterator[LndNode]:
    """The one channel to LND. It need not answer yet. Raises StartError for missing settings and files."""
    host, cert, macaroon = settings.lnd_host, settings.lnd_tls_cert, settings.lnd_macaroon
    for name, value in (("LND_HOST", host), ("LND_TLS_CERT", cert), ("LND_MACAROON", macaroon)):
        if value is None:
            raise StartError(
                f"{PREFIX}{name} is not set: name your LND, or try `boltworks demo`, which brings its own nodes"
            )
    if host is None or cert is None or macaroon is None:
        raise AssertionError("checked above")
    for name, path in (("LND_TLS_CERT", cert), ("LND_MACAROON", macaroon)):
        if not path.is_file():
            raise StartError(f"{PREFIX}{name}: there is no file {path}")
    if is_admin_macaroon(macaroon.read_bytes()):
        log.warning("%sLND_MACAROON is an admin macaroon; `boltworks macaroon bake` makes one that can do less", PREFIX)
    async with LndNode(host, cert, macaroon) as node:
        yield node


@asynccontextmanager
async def open_gateway(settings: Settings, catalogue: Catalogue) -> AsyncIterator[Gateway]:
    """Everything that server, worker and watcher share."""
    async with (
        open_node(settings) as node,
        open_database(settings) as pool,
        # No limit of its own: works and deliveries are bounded where they begin, and take no place from each other.
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        await check_token_secret(pool, settings.token_secret.get_secret_value())
        installation_id = await pool.fetchval("select id from installation")
        workers = build_workers(catalogue, session, settings.worker_secret.get_secret_value())
        yield Gateway(settings, catalogue, pool, node, session, workers, installation_id)


async def check_commands(catalogue: Catalogue, settings: Settings) -> None:
    """For a process that runs work. Raises StartError when a `command` work can not be run isolated here."""
    if reason := await command_check.why_not(catalogue, settings):
        raise StartError(reason)


async def check_token_secret(pool: Pool, secret: str) -> None:
    """All processes of one database must hold the same TOKEN_SECRET: the first one's fingerprint decides."""
    fingerprint = hashlib.sha256(b"boltworks token secret:" + secret.encode()).digest()
    kept = await pool.fetchval(
        "update installation set token_secret_fingerprint = coalesce(token_secret_fingerprint, $1)"
        " returning token_secret_fingerprint",
        fingerprint,
    )
    if not hmac.compare_digest(bytes(kept), fingerprint):
        raise StartError(
            f"{PREFIX}TOKEN_SECRET is not the one this database was used with: tokens given out would stop working"
        )
