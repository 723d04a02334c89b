"""`python -m tests.chaos.run --seconds 600 --seed 7`: rounds of load and faults; after each, every sat is looked for.

The seed decides what is bought, how its rest is taken, which part is harmed, when and for how long; how the parts
interleave is the machine's affair, and the reason to do it often.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import click
from aiohttp import web

from gateway.audit import all_invariants
from gateway.catalogue import load_catalogue
from gateway.database import migrate_database
from gateway.execution.queue import enqueue
from gateway.reconcile.run import reconcile
from ledger import book, transfers
from ledger.audit import find_violations
from ledger.database import DATABASE_AWAY, Pool, open_pool
from ledger.embedded import embedded_postgres
from lightning.lnd import LndNode
from lightning.regtest.control import AsyncControl
from lightning.regtest.network import Network
from lightning.regtest.processes import myself
from lightning.regtest.progress import Progress
from tests.chaos.log import EventLog
from tests.chaos.parts import Fault, Kept, Lnd, Postgres
from tests.chaos.purchase import Kind, Purchase
from tests.gateways import GatewayProcess
from tests.services import WorkService, work_service

BUYERS = 8
ROUND_S = 20.0
QUIET_S = 180.0
"""How long the last job of a round may take once nothing is harmed any more."""
POOL_SATS = 1_000_000
PAUSE_S = (0.3, 3.0)
"""Between two faults."""


class PatientService(WorkService):
    """Works as long as its input says."""

    async def run(self, request: web.Request) -> web.Response:
        order = await request.json()
        await asyncio.sleep(float(order["input"].get("seconds", 0)))
        return await super().run(request)


@dataclass
class World:
    network: Network
    payer: AsyncControl
    pool: Pool
    node: LndNode
    http: aiohttp.ClientSession
    server: GatewayProcess
    faults: list[Fault]
    log: EventLog
    random: random.Random
    catalogue: Path
    bought: int = 0
    done: list[Purchase] = field(default_factory=list)
    cost_msat: int = 0
    differences: int = 0

    async def round(self, seconds: float) -> None:
        """Load and faults, then quiet, then every sat is looked for."""
        before_msat = await self.payer.settled_balance_msat(60.0)
        until_s = time.monotonic() + seconds
        mine: list[Purchase] = []
        async with asyncio.TaskGroup() as tasks:
            harm = tasks.create_task(self._harm(until_s))
            for _ in range(BUYERS):
                tasks.create_task(self._buy(until_s, mine))
            await harm
            self.log.tell("quiet")
        await self._check(mine, before_msat)

    async def _buy(self, until_s: float, mine: list[Purchase]) -> None:
        while time.monotonic() < until_s:
            self.bought += 1
            seeded = random.Random(self.random.random())
            one = Purchase(self.bought, self.server.url, self.http, self.payer, self.log, seeded)
            await self._known(one)
            await one.run(max(0.0, until_s - time.monotonic()) + QUIET_S)
            mine.append(one)

    async def _known(self, one: Purchase) -> None:
        """The operator's word on the buyer's tier, before anything is harmed for it."""
        while one.plan.tier is not None:
            try:
                await self.pool.execute(
                    "insert into identities (pubkey, operator_tier) values ($1, $2) on conflict do nothing",
                    one.signer.pubkey,
                    one.plan.tier,
                )
            except DATABASE_AWAY:
                await asyncio.sleep(0.1)
            else:
                return

    async def _harm(self, until_s: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            while time.monotonic() < until_s:
                await asyncio.sleep(self.random.uniform(*PAUSE_S))
                free = [fault for fault in self.faults if not fault.busy.locked()]
                if free:
                    fault = self.random.choice(free)
                    tasks.create_task(self._do(fault, self.random.uniform(0.2, fault.longest_s)))
                    await asyncio.sleep(0)  # it takes its part's lock before another is chosen

    async def _do(self, fault: Fault, for_s: float) -> None:
        async with fault.busy:
            self.log.tell(fault.name.partition(" ")[0], what=fault.name, for_s=round(for_s, 2))
            await fault.do(for_s)
            await self._audit(fault.name)

    async def _audit(self, after: str) -> None:
        """The books are right at any moment, also in the middle of everything (one snapshot)."""
        with contextlib.suppress(*DATABASE_AWAY):
            async with self.pool.acquire() as conn:
                violations = await find_violations(conn, all_invariants())
            self.log.tell("audit", after=after, violations=len(violations))
            assert violations == [], after

    async def _check(self, mine: list[Purchase], before_msat: int) -> None:
        async with self.pool.acquire() as conn:
            assert await find_violations(conn, all_invariants()) == []
        report = await reconcile(self.pool, self.node, enqueue, load_catalogue(self.catalogue).gate_rules)
        self.differences += len(report.findings) + len(report.repaired)
        self.log.tell("reconciled", differences=len(report.findings), repaired=len(report.repaired))
        assert report.is_clean, report.to_dict()
        assert report.repaired == [], report.to_dict()
        cost_msat = sum([await one.verify() for one in mine])
        after_msat = await self.payer.settled_balance_msat(60.0)
        self.log.tell("round", jobs=len(mine), cost_msat=cost_msat, payer_msat=before_msat - after_msat)
        assert before_msat - after_msat == cost_msat
        assert sum(one.faults_500 for one in mine) == 0
        self.cost_msat += cost_msat
        self.done += mine

    def figures(self) -> dict[str, int]:
        """What happened, counted."""
        counts = self.log.counts
        return {
            "kills": counts["kill"],
            "freezes": counts["freeze"],
            "jobs": len(self.done),
            "payments": sum(len(one.paid) for one in self.done),
            "payments held in flight": counts["held"],
            "refunds": sum(one.last["refundState"] == "paid" for one in self.done),
            "audits in the middle": counts["audit"],
            "rounds": counts["round"],
            "sats that the payer's node says it cost": self.cost_msat // 1000,
            "differences": self.differences,
        }


@asynccontextmanager
async def world(network: Network, folder: Path, seed: int, log: EventLog) -> AsyncIterator[World]:
    """All parts, running: PostgreSQL of its own, server, worker and watcher apart, on the network's two nodes."""
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(embedded_postgres(folder / "database"))
        await migrate_database(postgres.dsn)
        service = PatientService()
        await stack.enter_async_context(work_service(service))
        kept = _processes(network, folder, postgres.dsn, service, log)
        server = kept["server"].process
        for part in kept.values():
            await stack.enter_async_context(part.kept())
        await _until_there(server)
        pool = await stack.enter_async_context(open_pool(postgres.dsn, min_size=1, max_size=4))
        async with pool.acquire() as conn, conn.transaction():
            await book.post(conn, [transfers.topup("chaos", POOL_SATS * 1000)])
        access = network.access.gateway
        node = await stack.enter_async_context(LndNode(access.host, access.tls_cert, access.macaroon))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        faults = _faults(kept, Lnd(network), Postgres(folder / "database"))
        payer = network.async_control("payer")
        stack.callback(payer.close)
        catalogue = folder / "boltworks.toml"
        yield World(network, payer, pool, node, http, server, faults, log, random.Random(seed), catalogue)


def _faults(kept: dict[str, Kept], lnd: Lnd, postgres: Postgres) -> list[Fault]:
    parts = {**kept, "lnd": lnd, "postgres": postgres}
    longest_s = {"lnd": (3.0, 8.0), "postgres": (0.0, 5.0)}
    faults = []
    for name, part in parts.items():
        down_s, frozen_s = longest_s.get(name, (0.0, 6.0))
        busy = asyncio.Lock()
        faults += [
            Fault(f"kill {name}", part.kill, max(0.3, down_s), busy),
            Fault(f"freeze {name}", part.freeze, frozen_s, busy),
        ]
    return faults


def _processes(network: Network, folder: Path, dsn: str, service: WorkService, log: EventLog) -> dict[str, Kept]:
    settings = {
        **network.access.settings(),
        "BOLTWORKS_DATABASE_URL": dsn,
        "BOLTWORKS_DATA_DIR": str(folder / "data"),
        "BOLTWORKS_CONFIG": str(service.catalogue(folder / "boltworks.toml")),
        "BOLTWORKS_SWEEP_INTERVAL_S": "2",
        "BOLTWORKS_LEASE_S": "5",
        "BOLTWORKS_TRUSTED_PROXIES": "127.0.0.1",
        "BOLTWORKS_OPEN_INVOICES_PER_ADDRESS": "20",
    }
    server = GatewayProcess(_folder(folder, "server"), settings, dsn)
    webhook = {"BOLTWORKS_WEBHOOK_URL": f"{server.url}/webhooks/lightning/invoice-settled"}
    reads_only = {"BOLTWORKS_LND_MACAROON": str(network.watcher_macaroon)}
    worker = GatewayProcess(_folder(folder, "worker"), settings, dsn)
    watcher = GatewayProcess(_folder(folder, "watcher"), {**settings, **webhook, **reads_only}, dsn)
    return {
        "server": Kept("server", server, ("serve", "--no-work", "--no-watch"), log),
        "worker": Kept("worker", worker, ("worker",), log),
        "watcher": Kept("watcher", watcher, ("watch",), log),
    }


def _folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


async def _until_there(server: GatewayProcess) -> None:
    async with asyncio.timeout(90):
        while server.process is None:
            await asyncio.sleep(0.05)
        await server.wait_ready()


async def chaos(network: Network, folder: Path, seconds: float, seed: int, log: EventLog) -> dict[str, int]:
    """Rounds until the time is over; the figures. Raises AssertionError (in a group) at the first sat that is wrong."""
    log.tell("start", seed=seed, seconds=seconds, buyers=BUYERS, kinds=[kind.value for kind in Kind])
    async with world(network, folder, seed, log) as there:
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 1:
            await there.round(min(ROUND_S, left_s))
            there.server.log.write_bytes(b"")  # a round that was right needs no log
        return there.figures()


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="How long the parts are harmed, all rounds together.")
@click.option("--seed", default=1, show_default=True)
@click.option("--log", "log_file", type=click.Path(path_type=Path), help="Where the events go, as JSON lines.")
def main(seconds: float, seed: int, log_file: Path | None) -> None:
    """Kill and freeze everything at random under load, and look for every sat."""
    logging.disable(logging.WARNING)  # connections that break are what this is about
    log = EventLog(log_file)
    with tempfile.TemporaryDirectory(prefix="boltworks-chaos-") as name:
        network = Network(Path(name) / "regtest", Progress())
        try:
            network.up(owner=myself())
            figures = asyncio.run(chaos(network, Path(name), seconds, seed, log))
        finally:
            network.down(purge=True)
            log.close()
    for what, count in figures.items():
        click.echo(f"{what:42} {count:>10,}")


if __name__ == "__main__":
    sys.exit(main())
