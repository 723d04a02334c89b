"""A whole gateway in the test's own loop: real PostgreSQL, real HTTP, the fake node (which passes LND's contract)."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp_jinja2
import jinja2
import pytest
import pytest_asyncio

from gateway.catalogue import load_catalogue
from gateway.context import Gateway
from gateway.pages import rendering
from gateway.serve import running
from gateway.settings import load_settings
from gateway.work import build_workers
from ledger.database import Pool
from lightning import bolt11
from lightning.fake import FakeNode
from tests.gateways import Buyer
from tests.lnurl_wallet import Wallet, serving_wallet
from tests.services import WorkService
from tests.waiting import PATIENCE_S


@dataclass
class Web(Buyer):
    """A client of the gateway, and a hand on its fake node."""

    gateway: Gateway
    node: FakeNode
    service: WorkService

    def pay(self, job: dict[str, Any], amount_msat: int | None = None) -> None:
        self.node.settle(bytes.fromhex(job["invoice"]["paymentHash"]), amount_msat)

    async def paid(self, work_input: dict[str, Any], **more: Any) -> dict[str, Any]:
        """A job of the work `echo` that is bought and paid."""
        job = await self.buy("echo", work_input, **more)
        self.pay(job)
        return job

    async def owing(self, cost: int = 30) -> dict[str, Any]:
        """A finished job of 100 sats that owes what it did not cost."""
        job = await self.paid({"cost": cost})
        await self.until(job, state="complete", refundState="pending")
        return job

    async def until_refund_problem(self, job: dict[str, Any]) -> str:
        """Until the attempt was given up; the pauses between its sends are left out."""
        async with asyncio.timeout(PATIENCE_S):
            while (seen := await self.job(job))["refundState"] != "pending" or "refundProblem" not in seen:
                await self.gateway.pool.execute("update refund_attempts set next_look_at = now()")
                self.gateway.refund_wake.set()
                await asyncio.sleep(0.05)
        return str(seen["refundProblem"])

    def invoice(self, amount_sats: int, **more: Any) -> str:
        """Of the payer's own wallet; 0 sats: amountless."""
        return self.node.foreign_invoice(amount_sats * 1000 or None, **more)

    def sends(self, payment_request: str) -> int:
        payment_hash = bolt11.read(payment_request).payment_hash
        return sum(sent.payment_hash == payment_hash for sent in self.node.sent)


class CompiledOnce(jinja2.BytecodeCache):
    """What templates were compiled to, under the name and the hash of their text."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        if bucket.key in self.kept:
            bucket.bytecode_from_string(self.kept[bucket.key])

    def dump_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        self.kept[bucket.key] = bucket.bytecode_to_string()


@pytest.fixture(scope="session", autouse=True)
def read_once() -> Iterator[None]:
    """Hundreds of gateways begin in one process here: templates are compiled, and catalogues read, for the first."""
    set_up = functools.partial(aiohttp_jinja2.setup, bytecode_cache=CompiledOnce())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendering.aiohttp_jinja2, "setup", set_up)
        patch.setattr(rendering, "read_languages", functools.cache(rendering.read_languages))
        yield


@pytest.fixture
def more_settings() -> dict[str, Any]:
    """What a file of tests sets otherwise, by a fixture of the same name."""
    return {}


@pytest_asyncio.fixture
async def web(
    pool: Pool, service: WorkService, http: aiohttp.ClientSession, tmp_path: Path, more_settings: dict[str, Any]
) -> AsyncIterator[Web]:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(128)
    sock.setblocking(False)
    settings = load_settings(
        data_dir=tmp_path / "data",
        listen=f"127.0.0.1:{sock.getsockname()[1]}",
        config=service.catalogue(tmp_path / "boltworks.toml"),
        **(
            {
                "sweep_interval_s": 0.3,
                "open_invoices_per_address": 20,
                "lease_s": 6,
                "lnurl_allow_hosts": ("127.0.0.1",),
            }
            | more_settings
        ),
    )
    catalogue = load_catalogue(settings.config)
    node = FakeNode()
    async with aiohttp.ClientSession() as session:
        workers = build_workers(catalogue, session, settings.worker_secret.get_secret_value())
        installation_id = await pool.fetchval("select id from installation")
        gateway = Gateway(settings, catalogue, pool, node, session, workers, installation_id)
        try:
            async with running(gateway, sock, watch=True, work=True):
                async with asyncio.timeout(PATIENCE_S):
                    await node.subscribed()
                yield Web(http, settings.base_url, gateway, node, service)
                service.release.set()
        finally:
            sock.close()


@pytest_asyncio.fixture
async def wallet(web: Web) -> AsyncIterator[Wallet]:
    """A wallet's server, at a Lightning Address and an LNURL of its own."""

    async def make_invoice(amount_msat: int, description_hash: bytes) -> str:
        return web.node.foreign_invoice(amount_msat, description_hash=description_hash)

    async with serving_wallet(make_invoice) as serving:
        yield serving
