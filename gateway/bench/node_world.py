"""What `bench node` runs on: regtest nodes, a PostgreSQL and a `boltworks serve` of its own, all thrown away."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from gateway.bench.node_cpu import Part, processes, spent_s
from ledger.embedded import embedded_postgres
from ledger.money import Msat
from lightning.channel import LndChannel
from lightning.lnd import LndNode
from lightning.regtest.control import AsyncControl
from lightning.regtest.network import Network
from lightning.regtest.ports import choose_ports
from lightning.regtest.processes import myself
from lightning.stubs import ln
from lightning.types import Invoice, NodeUnavailable, PaymentOutcome

START_TIMEOUT_S = 60
PAY_TIMEOUT_S = 60
PRICE_SATS = 100
EXPIRY_S = 3600


@dataclass
class Served:
    """`boltworks serve` as its own process; killed and started again."""

    folder: Path
    env: dict[str, str]
    url: str
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Until it is ready."""
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", "serve", env=self.env, stdout=log, stderr=log, cwd=self.folder
            )
        async with asyncio.timeout(START_TIMEOUT_S), aiohttp.ClientSession() as http:
            while True:
                if await self._is_ready(http):
                    return
                await asyncio.sleep(0.05)

    async def _is_ready(self, http: aiohttp.ClientSession) -> bool:
        if self.process is None or self.process.returncode is not None:
            raise RuntimeError(f"the gateway ended: {(self.folder / 'gateway.log').read_text()[-2000:]}")
        try:
            async with http.get(f"{self.url}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            await self.process.wait()

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await self.process.wait()


@dataclass
class BenchWorld:
    network: Network
    served: Served
    http: aiohttp.ClientSession
    node: LndNode
    """The gateway's own LND."""
    raw: LndChannel
    """The same LND, for calls with nothing in between."""
    payer: LndNode
    payer_hand: AsyncControl
    """For hold invoices."""
    postmaster_pid: int
    settled_at: dict[bytes, float] = field(default_factory=dict)
    """When the raw stream of the gateway's LND told of a settlement; the loop's clock."""
    _settled: dict[bytes, asyncio.Event] = field(default_factory=dict)

    def spent_s(self) -> Counter[str]:
        """Processor time that each who takes part has used up. The client is this process, with the work service."""
        gateway = self.served.process
        parts = {
            "gateway": Part(gateway.pid if gateway else 0, with_children=True),
            "postgresql": Part(self.postmaster_pid, with_children=True),
            "client": Part(os.getpid()),
        }
        started = self.network.state.processes
        for name, process in (("lnd", "gateway"), ("payers_lnd", "payer"), ("bitcoind", "bitcoind")):
            parts[name] = Part(started[process].pid)
        return spent_s(parts, processes())

    # Raw LND

    async def raw_invoice(self) -> tuple[str, bytes]:
        """`AddInvoice` and nothing else: BOLT11 and payment hash."""
        request = ln.Invoice(
            r_preimage=secrets.token_bytes(32), value_msat=PRICE_SATS * 1000, memo="bench", expiry=EXPIRY_S
        )
        answer = await self.raw.call(self.raw.stubs.lightning.AddInvoice, request, timeout_s=30)
        return str(answer.payment_request), bytes(answer.r_hash)

    async def follow_settlements(self) -> None:
        """`SubscribeInvoices`, until cancelled."""
        loop = asyncio.get_running_loop()
        settlements: AsyncGenerator[Invoice, None] = self.node.subscribe_settlements(0)
        async with aclosing(settlements) as stream:
            async for invoice in stream:
                self.settled_at[invoice.payment_hash] = loop.time()
                self._event(invoice.payment_hash).set()

    async def until_settled(self, payment_hash: bytes) -> None:
        await self._event(payment_hash).wait()

    def _event(self, payment_hash: bytes) -> asyncio.Event:
        return self._settled.setdefault(payment_hash, asyncio.Event())

    async def pay(self, sender: LndNode, payment_request: str) -> PaymentOutcome:
        return await sender.send_payment(
            payment_request,
            amount_msat=None,
            fee_limit_msat=Msat(10_000),
            cltv_limit=432,
            timeout_s=PAY_TIMEOUT_S,
            deadline_s=PAY_TIMEOUT_S,
        )

    async def payers_invoice(self, amount_sats: int) -> str:
        made = await self.payer.add_invoice(secrets.token_bytes(32), Msat(amount_sats * 1000), "back", EXPIRY_S)
        return made.payment_request

    # The gateway

    async def buy(self, cost_sats: int = PRICE_SATS) -> dict[str, Any]:
        body = {"work": "bench", "input": {"cost": cost_sats}}
        async with self.http.post(f"{self.served.url}/api/jobs", json=body) as response:
            job: dict[str, Any] = await response.json()
            if response.status != 201:
                raise RuntimeError(f"{response.status} {job}")
            return job

    async def refund(self, job: dict[str, Any], payment_request: str) -> None:
        url = f"{self.served.url}/api/jobs/{job['id']}/refund"
        async with self.http.post(url, json={"destination": payment_request}, headers=_bearer(job)) as response:
            if response.status != 202:
                raise RuntimeError(f"{response.status} {await response.text()}")

    async def job(self, job: dict[str, Any]) -> dict[str, Any]:
        async with self.http.get(f"{self.served.url}/api/jobs/{job['id']}", headers=_bearer(job)) as response:
            return dict(await response.json())

    async def told(
        self, job: dict[str, Any], is_so: Callable[[dict[str, Any]], bool], listening: asyncio.Event | None = None
    ) -> float:
        """Server-sent events until one says so; when that was, by the loop's clock. `listening` is set at the first."""
        url = f"{self.served.url}/api/jobs/{job['id']}/events"
        async with self.http.get(url, headers=_bearer(job)) as response:
            async for line in response.content:
                if not line.startswith(b"data: "):
                    continue
                if listening is not None:
                    listening.set()
                if is_so(json.loads(line[6:])):
                    return asyncio.get_running_loop().time()
        raise RuntimeError("the event stream ended early")


def _bearer(job: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {job['token']}"}


async def _do_work(request: web.Request) -> web.Response:
    """The operator's own service: the cheapest work there is."""
    order = await request.json()
    return web.json_response({"result": {}, "costSats": order["input"]["cost"]})


@asynccontextmanager
async def _work_service() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/run", _do_work)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/run"
    finally:
        await runner.cleanup()


def _catalogue(path: Path, service_url: str) -> Path:
    path.write_text(
        f'[[work]]\nname = "bench"\ntitle = "Bench"\nworker = "http"\nurl = "{service_url}"\n'
        f"price = {{ estimate_sats = {PRICE_SATS} }}\n"
    )
    return path


@asynccontextmanager
async def open_bench(folder: Path) -> AsyncIterator[BenchWorld]:
    """Up and ready; leaving ends it all."""
    network = Network(folder / "regtest")
    try:
        await asyncio.to_thread(network.up, owner=myself())
        async with AsyncExitStack() as stack:
            yield await _open(folder, network, stack)
    finally:
        await asyncio.to_thread(network.down)


async def _open(folder: Path, network: Network, stack: AsyncExitStack) -> BenchWorld:
    postgres = await stack.enter_async_context(embedded_postgres(folder / "database"))
    catalogue = _catalogue(folder / "boltworks.toml", await stack.enter_async_context(_work_service()))
    listen = f"127.0.0.1:{choose_ports(1)[0]}"
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BOLTWORKS_")},
        **network.access.settings(),
        "BOLTWORKS_CONFIG": str(catalogue),
        "BOLTWORKS_DATA_DIR": str(folder / "data"),
        "BOLTWORKS_DATABASE_URL": postgres.dsn,
        "BOLTWORKS_LISTEN": listen,
        "BOLTWORKS_OPEN_INVOICES_PER_ADDRESS": "100000",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    served = Served(folder, env, f"http://{listen}")
    await served.start()
    stack.push_async_callback(served.stop)
    ours, payers = network.access.gateway, network.access.payer
    node = await stack.enter_async_context(LndNode(ours.host, ours.tls_cert, ours.macaroon))
    raw = await stack.enter_async_context(LndChannel(ours.host, ours.tls_cert, ours.macaroon))
    payer = await stack.enter_async_context(LndNode(payers.host, payers.tls_cert, payers.macaroon))
    hand = network.async_control("payer")
    stack.callback(hand.close)
    http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    postmaster_pid = int((postgres.files.cluster / "postmaster.pid").read_text().split()[0])
    world = BenchWorld(network, served, http, node, raw, payer, hand, postmaster_pid)
    following = asyncio.create_task(world.follow_settlements())
    stack.push_async_callback(_cancelled, following)
    return world


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    try:
        await task
    except (asyncio.CancelledError, NodeUnavailable):
        return
