"""The real process is killed at each suspension of the money coroutines; every sat arrives once all the same."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from gateway.catalogue import load_catalogue
from ledger import book, transfers
from ledger.database import Pool
from ledger.free_tier import Rules
from ledger.transfers import POOL, POOL_RESERVED
from lightning.bolt11 import read
from lightning.lnd import LndNode
from lightning.regtest.control import AsyncControl
from lightning.regtest.network import Network
from tests.checks import assert_books_and_node_agree
from tests.crash import AT_FILE, MONEY, SEEN_FILE, points_seen
from tests.gateways import Buyer, GatewayProcess, gateway_process
from tests.nostr import Signer, header
from tests.services import WorkService

SAMPLED = {"sale": 3, "sale_group": 4, "on_file": 4, "claim": 2, "advance": 2}
"""Of these only each n-th point is walked, the same ones each time; all of them with BOLTWORKS_CRASH_ALL=1."""
TIMEOUT_S = 90
POOL_SATS = 100_000
ROOT = Path(__file__).parents[2]


@dataclass
class Victim:
    gateway: GatewayProcess
    buyer: Buyer
    payer: AsyncControl
    at: Path
    seen: Path
    pool: Pool
    node: LndNode
    rules: Rules
    bought: int = 0
    completed: int = 0

    async def sell_and_refund(self, work_input: dict[str, Any], owed_sats: int, *, on_file: bool = False) -> bool:
        """One partial job, paid and paid back, however often the process dies meanwhile. True: it died.

        `on_file`: the destination is given with the order, and nobody asks for the refund.
        """
        back = await self.payer.invoice(0 if on_file else owed_sats, expiry_s=3600)
        job, died = await self._buy(work_input, {"refundTo": back} if on_file else {})
        await self.payer.pay(job["invoice"]["paymentRequest"])
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                died = await self._revive() or died
                seen = await self._job(job)
                if seen.get("refundState") == "paid":
                    break
                if seen.get("refundState") == "pending" and not on_file:
                    await self._claim(job, back)
                await asyncio.sleep(0.03)
        received = await self.payer.lookup(read(back).payment_hash)
        assert received is not None
        assert received.amount_paid_msat == owed_sats * 1000
        assert seen["refundAmountSats"] == owed_sats
        self.completed += seen["state"] == "complete"
        return died

    async def _buy(self, work_input: dict[str, Any], more: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """By somebody new each time, whom the pool gives half; and whether it died. One order is one job.

        The last steps of the job before may reach the point too.
        """
        self.bought += 1
        who, key, died = Signer(1000 + self.bought), f"walk-{secrets.token_hex(16)}", False
        await self.pool.execute("insert into identities (pubkey, operator_tier) values ($1, 'half')", who.pubkey)
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                died = await self._revive() or died
                try:
                    job = await self._ask(who, {"work": "echo", "input": work_input, **more}, key)
                except aiohttp.ClientError:
                    job = None
                if job is not None:
                    break
                await asyncio.sleep(0.03)
        assert job["serve"] == "partial"
        assert await self.pool.fetchval("select count(*) from jobs where pubkey = $1", who.pubkey) == 1
        return job, died

    async def _ask(self, who: Signer, body: dict[str, Any], key: str) -> dict[str, Any] | None:
        """None: an earlier try with this key is not over yet."""
        raw, url = json.dumps(body).encode(), f"{self.gateway.url}/api/jobs"
        headers = header(who.call("POST", url, raw, content=secrets.token_hex(8)))
        headers |= {"Content-Type": "application/json", "Idempotency-Key": key}
        async with self.buyer.http.post(url, data=raw, headers=headers) as response:
            job = await response.json()
            if job.get("code") == "idempotency_key_in_use":
                return None
            assert response.status == 201, job
            return dict(job)

    async def _revive(self) -> bool:
        process = self.gateway.process
        if process is None or process.returncode is None:
            return False
        self.at.unlink(missing_ok=True)
        await self.gateway.start()
        return True

    async def _job(self, job: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self.buyer.job(job)
        except (aiohttp.ClientError, AssertionError):
            return {}

    async def _claim(self, job: dict[str, Any], back: str) -> None:
        try:
            await self.buyer.refund(job, back)
        except aiohttp.ClientError:
            return

    async def assert_all_is_right(self, point: str) -> None:
        await assert_books_and_node_agree(self.pool, self.node, self.rules, point)
        async with self.pool.acquire() as conn:
            kept = await book.kept_balances(conn, (POOL, POOL_RESERVED))
        # Each that was done absorbed 50, and the pool got its 5 % of the 20 that its buyer was charged.
        assert kept == {POOL: (POOL_SATS - 49 * self.completed) * 1000, POOL_RESERVED: 0}, point
        # The walk fails more work than anybody may: it is not slowed down for that.
        await self.pool.execute("delete from work_failures")


@pytest_asyncio.fixture
async def victim(
    regtest: Network, dsn: str, pool: Pool, service: WorkService, payer: AsyncControl, tmp_path: Path
) -> AsyncIterator[Victim]:
    at, seen = tmp_path / "crash_at", tmp_path / "crash_seen"
    settings = {
        **regtest.access.settings(),
        "BOLTWORKS_CONFIG": str(service.catalogue(tmp_path / "boltworks.toml")),
        "BOLTWORKS_LEASE_S": "3",
        "PYTHONPATH": str(ROOT),
        AT_FILE: str(at),
        SEEN_FILE: str(seen),
    }
    access = regtest.access.boltworks
    async with (
        gateway_process(tmp_path, dsn, settings, start=False) as gateway,
        aiohttp.ClientSession() as http,
        LndNode(access.host, access.tls_cert, access.macaroon) as node,
    ):
        gateway.module = "tests.crash_gateway"
        await gateway.start()
        async with pool.acquire() as conn, conn.transaction():
            await book.post(conn, [transfers.topup("walk", POOL_SATS * 1000)])
        rules = load_catalogue(tmp_path / "boltworks.toml").gate_rules
        yield Victim(gateway, Buyer(http, gateway.url), payer, at, seen, pool, node, rules)


def chosen(highest: dict[str, int], *, everything: bool) -> list[str]:
    """`name:n` of the points to walk, the last of each coroutine always among them."""
    return [
        f"{name}:{count}"
        for name in MONEY
        for count in range(1, highest[name] + 1)
        if everything or count == highest[name] or count % SAMPLED.get(name, 1) == 1 % SAMPLED.get(name, 1)
    ]


@pytest.mark.slow
@pytest.mark.native
async def test_killed_at_each_suspension_every_sat_arrives_once(victim: Victim) -> None:
    for _ in range(2):
        # The second time with connections that are open already, as at every later job: the same points each time.
        victim.seen.write_text("")
        await victim.sell_and_refund({"cost": 70}, 30)
        await victim.sell_and_refund({"fail": True}, 50)
        await victim.sell_and_refund({"cost": 70}, 30, on_file=True)
    highest = points_seen(victim.seen)
    assert set(highest) == set(MONEY)
    deaths: Counter[str] = Counter()
    for point in chosen(highest, everything=bool(os.environ.get("BOLTWORKS_CRASH_ALL"))):
        name = point.partition(":")[0]
        victim.at.write_text(point)
        failing, on_file = name == "fail", name == "on_file"
        work_input, owed_sats = ({"fail": True}, 50) if failing else ({"cost": 70}, 30)
        died = await victim.sell_and_refund(work_input, owed_sats, on_file=on_file)
        victim.at.unlink(missing_ok=True)
        deaths[name] += died
        await victim.assert_all_is_right(point)
    print(f"points {highest}, died at {dict(deaths)}")  # noqa: T201 - the figures of the walk
    assert set(name for name, count in deaths.items() if count) == set(MONEY)
