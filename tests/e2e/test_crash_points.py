"""The real process is killed at each suspension of the money coroutines; every sat arrives once all the same."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from ledger import book
from ledger.database import Pool
from ledger.free_tier import Rules
from ledger.transfers import POOL, POOL_RESERVED
from lightning.bolt11 import read
from lightning.lnd import LndNode
from lightning.regtest.control import AsyncControl
from lightning.regtest.network import Network
from tests.checks import assert_books_and_node_agree
from tests.crash import MONEY
from tests.doomed import POOL_SATS, Doomed, chosen, doomed_on_nodes
from tests.gateways import Buyer
from tests.nostr import Signer, header
from tests.services import WorkService

SAMPLED = {"sale": 3, "sale_group": 4, "on_file": 4, "claim": 2, "advance": 2}
"""Of these only each n-th point is walked, the same ones each time; all of them with BOLTWORKS_CRASH_ALL=1."""
ALONE = {"plain_sale", "settle_group", "complete_group"}
"""Reached by jobs that their buyers pay alone; in all others the pool has a part."""
ON_FILE = {"on_file", "claim"}
"""Reached where the destination was given with the order; a first claim of a buyer who asks is one statement."""
LEGS = {
    "paid": ("settle", "settle_group", "begin_runs"),
    "worked": ("complete", "complete_group", "fail"),
    "sold and paid back": (
        *("sale", "sale_group", "plain_sale", "open_group"),
        *("on_file", "claim", "first_claim", "advance", "send_group", "paid_group"),
    ),
}
"""The walk in parts, which can go side by side, each on nodes of its own."""
TIMEOUT_S = 90


@dataclass
class Victim:
    doomed: Doomed
    buyer: Buyer
    payer: AsyncControl
    pool: Pool
    node: LndNode
    rules: Rules
    bought: int = 0
    completed: int = 0
    completed_alone: int = 0

    async def sell_and_refund(
        self, work_input: dict[str, Any], owed_sats: int, *, on_file: bool = False, alone: bool = False
    ) -> bool:
        """One job, paid and paid back, however often the process dies meanwhile. True: it died.

        `on_file`: the destination is given with the order, and nobody asks for the refund. `alone`: its buyer has no
        identity and pays all; else the pool gives half.
        """
        back = await self.payer.invoice(0 if on_file else owed_sats, expiry_s=3600)
        job, died = await self._buy(work_input, {"refundTo": back} if on_file else {}, alone=alone)
        await self.payer.pay(job["invoice"]["paymentRequest"])
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                died = await self.doomed.revive() is not None or died
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
        self.completed += seen["state"] == "complete" and not alone
        self.completed_alone += seen["state"] == "complete" and alone
        return died

    async def _buy(
        self, work_input: dict[str, Any], more: dict[str, Any], *, alone: bool
    ) -> tuple[dict[str, Any], bool]:
        """By somebody new each time, whom the pool gives half; and whether it died. One order is one job.

        The last steps of the job before may reach the point too.
        """
        self.bought += 1
        who, key, died = Signer(1000 + self.bought), f"walk-{secrets.token_hex(16)}", False
        stood = await self.pool.fetchval("select count(*) from jobs")
        await self.pool.execute("insert into identities (pubkey, operator_tier) values ($1, 'half')", who.pubkey)
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                died = await self.doomed.revive() is not None or died
                try:
                    job = await self._ask(None if alone else who, {"work": "echo", "input": work_input, **more}, key)
                except aiohttp.ClientError:
                    job = None
                if job is not None:
                    break
                await asyncio.sleep(0.03)
        assert job["serve"] == ("gate" if alone else "partial")
        assert await self.pool.fetchval("select count(*) from jobs") == stood + 1
        return job, died

    async def _ask(self, who: Signer | None, body: dict[str, Any], key: str) -> dict[str, Any] | None:
        """None: an earlier try with this key is not over yet."""
        raw, url = json.dumps(body).encode(), f"{self.buyer.url}/api/jobs"
        headers = {} if who is None else header(who.call("POST", url, raw, content=secrets.token_hex(8)))
        headers |= {"Content-Type": "application/json", "Idempotency-Key": key}
        async with self.buyer.http.post(url, data=raw, headers=headers) as response:
            job = await response.json()
            if job.get("code") == "idempotency_key_in_use":
                return None
            assert response.status == 201, job
            return dict(job)

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
        # Each that was done absorbed 50, and the pool got its 5 % of the 20, or of the 70, that its buyer was charged.
        given_msat = 49_000 * self.completed - 3_500 * self.completed_alone
        assert kept == {POOL: POOL_SATS * 1000 - given_msat, POOL_RESERVED: 0}, point
        # The walk fails more work than anybody may: it is not slowed down for that.
        await self.pool.execute("delete from work_failures")


@pytest_asyncio.fixture
async def victim(
    regtest: Network, dsn: str, pool: Pool, service: WorkService, payer: AsyncControl, tmp_path: Path
) -> AsyncIterator[Victim]:
    async with doomed_on_nodes(regtest, dsn, pool, service, tmp_path, "jobs") as on:
        yield Victim(on.doomed, Buyer(on.http, on.doomed.gateway.url), payer, pool, on.node, on.rules)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.native
@pytest.mark.parametrize("leg", LEGS)
async def test_killed_at_each_suspension_every_sat_arrives_once(victim: Victim, leg: str) -> None:
    for _ in range(2):
        # The second time with connections that are open already, as at every later job: the same points each time.
        victim.doomed.seen.write_text("")
        await victim.sell_and_refund({"cost": 70}, 30)
        await victim.sell_and_refund({"fail": True}, 50)
        await victim.sell_and_refund({"cost": 70}, 30, on_file=True)
        await victim.sell_and_refund({"cost": 70}, 30, alone=True)
    highest = victim.doomed.points()
    assert set(highest) == set(MONEY)
    deaths: Counter[str] = Counter()
    for point in chosen("jobs", highest, SAMPLED):
        name = point.partition(":")[0]
        if name not in LEGS[leg]:
            continue
        victim.doomed.aim(point)
        failing, on_file = name == "fail", name in ON_FILE
        work_input, owed_sats = ({"fail": True}, 50) if failing else ({"cost": 70}, 30)
        died = await victim.sell_and_refund(work_input, owed_sats, on_file=on_file, alone=name in ALONE)
        victim.doomed.spare()
        deaths[name] += died
        await victim.assert_all_is_right(point)
    print(f"points {highest}, died at {dict(deaths)}")  # noqa: T201 - the figures of the walk
    assert set(name for name, count in deaths.items() if count) == set(LEGS[leg])


def test_the_legs_are_the_whole_walk() -> None:
    assert sorted(name for leg in LEGS.values() for name in leg) == sorted(MONEY)
