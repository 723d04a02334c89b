"""The real process is killed at the suspensions of a session's money coroutines; no hold stays, no sat is lost."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from ledger.database import Pool
from lightning.bolt11 import read
from lightning.regtest.control import AsyncControl
from lightning.regtest.network import Network
from tests.checks import violations
from tests.crash import SESSIONS
from tests.doomed import Doomed, chosen, doomed_gateway
from tests.known import Holder
from tests.services import WorkService

TIMEOUT_S = 90
STEPS = dict.fromkeys(SESSIONS, 4)
"""Of each coroutine every fourth point is walked, and the last; all of them with BOLTWORKS_CRASH_ALL=1."""


@dataclass
class Victim:
    doomed: Doomed
    holder: Holder
    payer: AsyncControl
    pool: Pool
    deaths: Counter[str] = field(default_factory=Counter)
    charged_sats: int = 0

    async def survive(self, method: str, path: str, body: Any, *wanted: int) -> tuple[int, Any]:
        """The same call, with the same key, until it has one of these answers, however often the process dies."""
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        answer: tuple[int, Any] = (0, None)
        async with asyncio.timeout(TIMEOUT_S):
            while answer[0] not in wanted:
                await self.revive()
                try:
                    answer = await self.holder.call(
                        method, f"/api/sessions{path}", body, token=self.holder.session["token"], headers=headers
                    )
                except aiohttp.ClientError:
                    answer = (0, None)
                await asyncio.sleep(0.05)
        return answer

    async def revive(self) -> None:
        died_in = await self.doomed.revive()
        if died_in is not None:
            self.deaths[died_in] += 1

    async def ask(self) -> None:
        """A partial request: the pool pays 50 of its 70 sats, if it is not lost with its process."""
        body = {"work": "echo", "input": {"cost": 70}}
        status, answer = await self.survive("POST", "/current/requests", body, 200, 502)
        if status == 200:
            assert (answer["absorbedSats"], answer["chargedSats"]) == (50, 20)
            self.charged_sats += 20

    async def open_and_close(self) -> None:
        """A session of its own, whose whole deposit comes back."""
        mine = self.holder.session
        await self.payer.pay((await self.holder.open(20))["invoice"]["paymentRequest"])
        await self.holder.reaches(state="active")
        back = await self.payer.invoice(0, expiry_s=3600)
        body = {"destination": back, "refundKey": self.holder.session["refundKey"]}
        await self.survive("POST", "/current/close", body, 200)
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                await self.revive()
                try:
                    _, seen = await self.holder.own("GET", "")
                except aiohttp.ClientError:
                    continue
                if seen.get("refundState") == "paid":
                    break
                await asyncio.sleep(0.05)
        assert (seen["state"], seen["refundAmountSats"], seen["balanceSats"]) == ("closed", 20, 0)
        received = await self.payer.lookup(read(back).payment_hash)
        assert received is not None
        assert received.amount_paid_msat == 20_000
        self.holder.session = mine

    async def assert_all_is_right(self, point: str) -> None:
        await self.holder.reaches(heldSats=0)
        said = await self.holder.statement()
        assert said["chargedSats"] == self.charged_sats, point
        assert await violations(self.pool) == [], point


@pytest_asyncio.fixture
async def victim(
    regtest: Network, dsn: str, pool: Pool, service: WorkService, payer: AsyncControl, tmp_path: Path
) -> AsyncIterator[Victim]:
    async with (
        doomed_gateway(regtest, dsn, pool, service, tmp_path, "sessions") as doomed,
        aiohttp.ClientSession() as http,
    ):
        yield Victim(doomed, Holder(http, doomed.gateway.url), payer, pool)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.native
async def test_killed_at_the_suspensions_no_hold_is_left_and_no_sat_lost(victim: Victim) -> None:
    await victim.payer.pay((await victim.holder.open(50_000))["invoice"]["paymentRequest"])
    await victim.holder.reaches(state="active")
    await victim.holder.rank("half")
    for _ in range(2):
        # The second time with connections that are open already: the same points each time.
        victim.doomed.seen.write_text("")
        await victim.ask()
        await victim.open_and_close()
    highest = victim.doomed.points()
    assert set(highest) == set(SESSIONS)
    for point in chosen("sessions", highest, STEPS):
        victim.doomed.aim(point)
        await (victim.ask() if point.partition(":")[0] in ("begin", "end") else victim.open_and_close())
        victim.doomed.spare()
        await victim.assert_all_is_right(point)
    print(f"points {highest}, died at {dict(victim.deaths)}")  # noqa: T201 - the figures of the walk
    assert set(victim.deaths) == set(SESSIONS)
