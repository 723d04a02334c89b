"""A gateway that dies where it is told to, and what every walk over its crash points does with it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from gateway.catalogue import load_catalogue
from ledger import book, transfers
from ledger.database import Pool
from ledger.free_tier import Rules
from lightning.lnd import LndNode
from lightning.regtest.network import Network
from tests.crash import AT_FILE, SEEN_FILE, WALK, WALKS, points_seen
from tests.gateways import GatewayProcess, gateway_process
from tests.known import OPERATOR
from tests.services import WorkService

POOL_SATS = 100_000
ROOT = Path(__file__).parents[1]


@dataclass
class Doomed:
    gateway: GatewayProcess
    at: Path
    seen: Path

    def aim(self, point: str) -> None:
        """It dies at `name:n`, once."""
        self.at.write_text(point)

    def spare(self) -> None:
        self.at.unlink(missing_ok=True)

    async def revive(self) -> str | None:
        """Start it again if it died; the coroutine in which it did. To be called as long as it may die."""
        process = self.gateway.process
        if process is None or process.returncode is None:
            return None
        name = self.at.read_text().partition(":")[0]
        self.spare()
        await self.gateway.start()
        return name

    def points(self) -> dict[str, int]:
        """The highest point that each coroutine passed since the file was emptied."""
        return points_seen(self.seen)


@asynccontextmanager
async def doomed_gateway(
    regtest: Network, dsn: str, pool: Pool, service: WorkService, folder: Path, walk: str
) -> AsyncIterator[Doomed]:
    """On real nodes, with a funded pool; a lease of 3 s, so that what it leaves is taken up soon."""
    at, seen = folder / "crash_at", folder / "crash_seen"
    settings = {
        **regtest.access.settings(),
        "BOLTWORKS_OPERATOR_KEY": OPERATOR,
        "BOLTWORKS_CONFIG": str(service.catalogue(folder / "boltworks.toml")),
        "BOLTWORKS_LEASE_S": "3",
        "PYTHONPATH": str(ROOT),
        WALK: walk,
        AT_FILE: str(at),
        SEEN_FILE: str(seen),
    }
    async with gateway_process(folder, dsn, settings, start=False) as gateway:
        gateway.module = "tests.crash_gateway"
        await gateway.start()
        async with pool.acquire() as conn, conn.transaction():
            await book.post(conn, [transfers.topup("walk", POOL_SATS * 1000)])
        yield Doomed(gateway, at, seen)


@dataclass
class Surroundings:
    """A doomed gateway, and what its books are compared with."""

    doomed: Doomed
    http: aiohttp.ClientSession
    node: LndNode
    rules: Rules


@asynccontextmanager
async def doomed_on_nodes(
    regtest: Network, dsn: str, pool: Pool, service: WorkService, folder: Path, walk: str
) -> AsyncIterator[Surroundings]:
    access = regtest.access.boltworks
    async with (
        doomed_gateway(regtest, dsn, pool, service, folder, walk) as doomed,
        aiohttp.ClientSession() as http,
        LndNode(access.host, access.tls_cert, access.macaroon) as node,
    ):
        yield Surroundings(doomed, http, node, load_catalogue(folder / "boltworks.toml").gate_rules)


def chosen(walk: str, highest: Mapping[str, int], steps: Mapping[str, int]) -> list[str]:
    """`name:n` of the points to walk: each `steps[name]`-th, the first and the last of each coroutine among them.

    All of them with BOLTWORKS_CRASH_ALL=1.
    """
    everything = bool(os.environ.get("BOLTWORKS_CRASH_ALL"))
    return [
        f"{name}:{count}"
        for name in WALKS[walk]
        for count in range(1, highest[name] + 1)
        if everything or count == highest[name] or count % steps.get(name, 1) == 1 % steps.get(name, 1)
    ]
