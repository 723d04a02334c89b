"""A gateway in its three processes, with a PostgreSQL and an LND of its own: all that a fault may hit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import aiohttp

from gateway.catalogue import load_catalogue
from gateway.database import migrate_database
from ledger import book, transfers
from ledger.database import DATABASE_AWAY, Pool, open_pool
from ledger.embedded import EmbeddedPostgres, embedded_postgres
from ledger.free_tier import Rules
from lightning.lnd import LndNode
from lightning.regtest.control import AsyncControl
from lightning.regtest.network import Network
from tests.chaos.log import EventLog
from tests.chaos.plan import ESTIMATE_SATS
from tests.gateways import Buyer, GatewayProcess, free_port
from tests.services import WorkService, work_service

T = TypeVar("T")

POOL_SATS = 1_000_000
INVOICE_EXPIRY_S = 20
START_AGAIN_S = 0.3
REQUEST_TIMEOUT_S = 15
ROLES = {"server": ("serve", "--no-work", "--no-watch"), "worker": ("worker",), "watcher": ("watch",)}
"""The gateway's processes, and the command that each is started with."""


@dataclass
class Kept:
    """One process of the gateway, started again whenever it ends, as an operator's service manager does."""

    role: str
    process: GatewayProcess
    log: EventLog
    down_s: float = START_AGAIN_S
    killed: bool = False
    closing: bool = False

    async def run(self) -> None:
        while not self.closing:
            await self.process.start(*ROLES[self.role], ready=False)
            assert self.process.process is not None
            code = await self.process.process.wait()
            if self.closing:
                return
            if not self.killed:
                self.log.write("ended", who=self.role, code=code)
            await asyncio.sleep(self.down_s)
            self.killed, self.down_s = False, START_AGAIN_S

    @property
    def lives(self) -> bool:
        return self.process.process is not None and self.process.process.returncode is None

    def kill(self, down_s: float) -> None:
        """SIGKILL; it is started again after `down_s`."""
        assert self.process.process is not None
        self.killed, self.down_s = True, down_s
        self.process.process.kill()

    def signal(self, number: signal.Signals) -> None:
        assert self.process.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.process.send_signal(number)

    async def close(self) -> None:
        self.closing = True
        if self.lives:
            await self.process.stop(timeout_s=60)


@dataclass
class World:
    network: Network
    payer: AsyncControl
    payer_node: LndNode
    """The payer's own lists, in pages."""
    node: LndNode
    """The gateway's node, by the gateway's macaroon."""
    postgres: EmbeddedPostgres
    pool: Pool
    rules: Rules
    kept: dict[str, Kept]
    buyer: Buyer
    service: WorkService
    log: EventLog
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """No further order is begun."""

    @property
    def gateway(self) -> GatewayProcess:
        return self.kept["server"].process


async def patiently(call: Callable[[], Awaitable[T]], *, timeout_s: float = 60) -> T:
    """Again while the database is away. Raises what it last raised when the time is over."""
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                return await call()
            except DATABASE_AWAY:
                await asyncio.sleep(0.2)


def postgres_processes(postgres: EmbeddedPostgres) -> list[int]:
    """The postmaster of this very server, then its children (Linux; elsewhere itself alone)."""
    postmaster = int((postgres.files.cluster / "postmaster.pid").read_text().split("\n", 1)[0])
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # it ended meanwhile
        if parent == postmaster:
            children.append(int(stat.parent.name))
    return [postmaster, *children]


@asynccontextmanager
async def open_world(folder: Path, network: Network, payer: AsyncControl, log: EventLog) -> AsyncIterator[World]:
    """Everything runs; leaving stops it. The network is the caller's."""
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(embedded_postgres(folder / "database"))
        await migrate_database(postgres.dsn)
        pool = await stack.enter_async_context(open_pool(postgres.dsn, min_size=1, max_size=6))
        service = await stack.enter_async_context(work_service())
        catalogue = service.catalogue(folder / "boltworks.toml", ESTIMATE_SATS)
        http = await stack.enter_async_context(
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S), connector=aiohttp.TCPConnector(limit=0)
            )
        )
        access = network.access
        gateway_node, payers = access.boltworks, access.payer
        node = await stack.enter_async_context(LndNode(gateway_node.host, gateway_node.tls_cert, gateway_node.macaroon))
        payer_node = await stack.enter_async_context(LndNode(payers.host, payers.tls_cert, payers.macaroon))
        async with pool.acquire() as conn, conn.transaction():
            await book.post(conn, [transfers.topup("chaos", POOL_SATS * 1000)])
        kept = await stack.enter_async_context(_gateway(folder, network, postgres, catalogue, log))
        yield World(
            network=network,
            payer=payer,
            payer_node=payer_node,
            node=node,
            postgres=postgres,
            pool=pool,
            rules=load_catalogue(catalogue).gate_rules,
            kept=kept,
            buyer=Buyer(http, kept["server"].process.url),
            service=service,
            log=log,
        )


@asynccontextmanager
async def _gateway(
    folder: Path, network: Network, postgres: EmbeddedPostgres, catalogue: Path, log: EventLog
) -> AsyncIterator[dict[str, Kept]]:
    port = free_port()
    env = {
        **network.access.settings(),
        "BOLTWORKS_CONFIG": str(catalogue),
        "BOLTWORKS_DATA_DIR": str(folder / "data"),
        "BOLTWORKS_DATABASE_URL": postgres.dsn,
        "BOLTWORKS_SWEEP_INTERVAL_S": "2",
        "BOLTWORKS_LEASE_S": "6",
        "BOLTWORKS_INVOICE_EXPIRY_S": str(INVOICE_EXPIRY_S),
        "BOLTWORKS_TRUSTED_PROXIES": "127.0.0.1/32",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    kept: dict[str, Kept] = {}
    for role in ROLES:
        (folder / role).mkdir()
        kept[role] = Kept(role, GatewayProcess(folder / role, env, postgres.dsn, port), log)
    keepers = [asyncio.create_task(one.run()) for one in kept.values()]
    try:
        await _first_ready(kept["server"])
        yield kept
    finally:
        await asyncio.gather(*(one.close() for one in kept.values()))
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)


async def _first_ready(server: Kept) -> None:
    async with asyncio.timeout(120):
        while not server.lives:
            await asyncio.sleep(0.05)
        await server.process.wait_ready()
