"""The real process is killed at the suspensions of the evaluation step: a fee is kept, owed back or granted once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from ledger.database import Pool
from ledger.free_tier import Rules
from lightning.bolt11 import read
from lightning.lnd import LndNode
from lightning.regtest.control import AsyncControl
from lightning.regtest.network import Network
from tests.checks import assert_books_and_node_agree
from tests.crash import LOOKS
from tests.doomed import Doomed, chosen, doomed_on_nodes
from tests.gateways import Buyer
from tests.known import Known
from tests.nostr import Signer
from tests.services import WorkService

TIMEOUT_S = 90
STEPS = {"accept": 3, "reject": 4, "fail_look": 4}
ACCEPTED = {"verdict": {"accept": True, "estimateSats": 60}, "cost": 40}
REFUSED = {"verdict": {"accept": False, "reason": "Too blurred."}}


@dataclass
class Victim:
    doomed: Doomed
    http: aiohttp.ClientSession
    payer: AsyncControl
    pool: Pool
    node: LndNode
    rules: Rules
    deaths: Counter[str] = field(default_factory=Counter)
    bought: int = 0

    @property
    def buyer(self) -> Buyer:
        return Buyer(self.http, self.doomed.gateway.url)

    async def look(self, work_input: dict[str, Any], owed_sats: int, cost_sats: int) -> None:
        """One job whose fee the buyer pays, to its end; what it cost and gave back is told by the payer's node."""
        before_msat = await self.payer.settled_balance_msat()
        back = await self.payer.invoice(0, expiry_s=3600)
        job = await self.buyer.buy("looked-at", work_input, refundTo=back)
        await self.payer.pay(job["invoice"]["paymentRequest"])
        paid = {job["invoice"]["paymentHash"]}
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                seen = await self.seen(job)
                invoice = seen.get("invoice", {"paymentHash": job["invoice"]["paymentHash"]})
                if invoice["paymentHash"] not in paid:
                    paid.add(invoice["paymentHash"])
                    await self.payer.pay(invoice["paymentRequest"])
                if seen.get("state") in ("complete", "rejected", "failed") and seen["refundState"] in ("none", "paid"):
                    break
        received = await self.payer.lookup(read(back).payment_hash)
        assert received is not None
        assert received.amount_paid_msat == owed_sats * 1000
        assert before_msat - await self.payer.settled_balance_msat() == cost_sats * 1000

    async def look_granted(self) -> None:
        """Somebody new whom the pool serves free: fee and work are granted, each once."""
        self.bought += 1
        known = Known(self.http, self.doomed.gateway.url, Signer(2000 + self.bought))
        who = known.signer.pubkey
        await self.pool.execute("insert into identities (pubkey, operator_tier) values ($1, 'all')", who)
        job = await known.sign("/api/jobs", {"work": "looked-at", "input": ACCEPTED})
        async with asyncio.timeout(TIMEOUT_S):
            while (await self.seen(job)).get("state") != "complete":
                continue
        grants = await self.pool.fetch("select absorbed_sats from grants where pubkey = $1 order by id", who)
        assert [row["absorbed_sats"] for row in grants] == [10, 40]

    async def seen(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job now; nothing while its process is dead."""
        died_in = await self.doomed.revive()
        if died_in is not None:
            self.deaths[died_in] += 1
        await asyncio.sleep(0.03)
        try:
            return await self.buyer.job(job)
        except (aiohttp.ClientError, AssertionError):
            return {}

    async def walk(self, name: str, number: int) -> None:
        match name:
            case "reject":
                await self.look(REFUSED, 0, 10)
            case "fail_look":
                await self.look({}, 10, 0)
            case "accept" if number % 2 == 0:
                await self.look_granted()
            case _:
                await self.look(ACCEPTED, 20, 50)
        # The walk fails more looks than anybody may: it is not slowed down for that.
        await self.pool.execute("delete from work_failures")


@pytest_asyncio.fixture
async def victim(
    regtest: Network, dsn: str, pool: Pool, service: WorkService, payer: AsyncControl, tmp_path: Path
) -> AsyncIterator[Victim]:
    async with doomed_on_nodes(regtest, dsn, pool, service, tmp_path, "looks") as on:
        yield Victim(on.doomed, on.http, payer, pool, on.node, on.rules)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.native
async def test_killed_at_the_suspensions_a_fee_is_kept_or_given_back_once(victim: Victim) -> None:
    for _ in range(2):
        # The second time with connections that are open already: the same points each time.
        victim.doomed.seen.write_text("")
        for number, name in enumerate(LOOKS):
            await victim.walk(name, number)
        await victim.look_granted()
    highest = victim.doomed.points()
    assert set(highest) == set(LOOKS)
    for number, point in enumerate(chosen("looks", highest, STEPS)):
        victim.doomed.aim(point)
        await victim.walk(point.partition(":")[0], number)
        victim.doomed.spare()
        await assert_books_and_node_agree(victim.pool, victim.node, victim.rules, point)
    print(f"points {highest}, died at {dict(victim.deaths)}")  # noqa: T201 - the figures of the walk
    assert set(victim.deaths) == set(LOOKS)
