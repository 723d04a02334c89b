"""The gate's rules (ARCHITECTURE.md, "The gate") over HTTP: each entry of the table is named after its line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ledger.free_tier import Serve
from tests.nostr import Signer
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web
from tests.web.free_tier import ALICE, buy_as, fund, operator, pool_now, rank, signed

Scenario = Callable[[Web], Awaitable[None]]
LINES: dict[str, Scenario] = {}


def line(says: str) -> Callable[[Scenario], Scenario]:
    def keep(scenario: Scenario) -> Scenario:
        assert says not in LINES
        LINES[says] = scenario
        return scenario

    return keep


async def buy(web: Web, work_input: dict[str, Any], who: Signer = ALICE) -> dict[str, Any]:
    return await buy_as(web, who, "echo", work_input)


async def estimate(web: Web, who: Signer = ALICE) -> dict[str, Any]:
    status, said = await signed(web, "POST", "/api/estimate", {"work": "echo", "input": {}}, who=who)
    assert status == 200, said
    return dict(said)


async def used(web: Web, who: Signer = ALICE) -> tuple[int, int]:
    """`(absorbed, reserved)` of today, as the identity itself sees it."""
    _, me = await signed(web, "GET", "/api/identity", who=who)
    return me["absorbedTodaySats"], me["reservedSats"]


async def yesterday(web: Web) -> None:
    """What was reserved until now was reserved yesterday."""
    async with web.gateway.pool.acquire() as conn:
        await conn.execute("update reservations set day = day - 1; update gate_days set day = day - 1")


# --- the policy --------------------------------------------------------------------------------------------


@line("charge + absorb = estimate")
async def _(web: Web) -> None:
    for tier, pool_sats in (("new", 0), ("half", 20), ("half", 500), ("all", 0)):
        await rank(web, tier)
        if pool_sats:
            await fund(web, pool_sats)
        said = await estimate(web)
        assert said["chargeSats"] + said["absorbSats"] == said["estimateSats"] == 100


@line("no identity: gate")
async def _(web: Web) -> None:
    await fund(web, 1000)
    _, said = await web.call("POST", "/api/estimate", {"work": "echo", "input": {}})
    assert (said["serve"], said["absorbSats"], said["reason"]) == ("gate", 0, "no_identity")
    assert (await web.buy("echo", {}))["serve"] == "gate"


# --- the calls ---------------------------------------------------------------------------------------------


@line("decide_dry_run is read-only: no lock kept, no row written, no daily budget used")
async def _(web: Web) -> None:
    await fund(web, 1000)
    await rank(web, "all")
    async with web.gateway.pool.acquire() as conn, conn.transaction():
        # Somebody holds every lock that a decision takes: a dry run does not wait for them.
        await conn.execute("select from identities for update")
        await conn.execute("select from accounts for update")
        await conn.execute("select from gate_days for update")
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(20):
                assert (await estimate(web))["serve"] == "free"
    assert await pool_now(web) == (1000, 0, 0)
    assert await web.gateway.pool.fetchval("select count(*) from gate_days") == 0


@line("decide: free debits the pool there and then")
async def _(web: Web) -> None:
    await fund(web, 150)
    await rank(web, "all")
    job = await buy(web, {"hold": True})
    assert (job["serve"], await pool_now(web)) == ("free", (50, 100, 0))


@line("decide: partial is advisory, an abandoned invoice costs the pool nothing")
async def _(web: Web) -> None:
    await fund(web, 60)
    await rank(web, "half")
    job = await buy(web, {})
    assert (job["serve"], await pool_now(web), await used(web)) == ("partial", (60, 0, 0), (0, 0))
    status, ended = await web.call("POST", f"/api/jobs/{job['id']}/cancel", token=job["token"])
    assert (status, ended["state"], await pool_now(web)) == (200, "expired", (60, 0, 0))


@line("decide: a drained pool answers gate, and no free work starts")
async def _(web: Web) -> None:
    await rank(web, "all")
    job = await buy(web, {})
    assert (job["serve"], job["state"], job["workAmountSats"]) == ("gate", "awaiting_work_payment", 100)
    assert web.service.orders == []


@line("reserve_partial_grant re-validates the daily limit")
async def _(web: Web) -> None:
    await fund(web, 5000)
    await rank(web, "half")
    job = await buy(web, {})
    await rank(web, "all")
    for _ in range(10):
        assert (await buy(web, {"hold": True}))["serve"] == "free"
    await rank(web, "half")
    web.pay(job)
    await web.until(job, state="failed", refundState="pending", refundAmountSats=50)


@line("reserve_partial_grant re-validates the tier")
async def _(web: Web) -> None:
    await fund(web, 5000)
    await rank(web, "half")
    job = await buy(web, {})
    await rank(web, "new")
    web.pay(job)
    await web.until(job, state="failed", refundState="pending", refundAmountSats=50)


@line("release_reservation: work that failed gives the whole reservation back")
async def _(web: Web) -> None:
    await fund(web, 100)
    await rank(web, "all")
    await web.until(await buy(web, {"fail": True}), state="failed")
    assert (await pool_now(web), await used(web)) == ((100, 0, 0), (0, 0))


@line("record_grant: over-reservation returns; audit row and daily counter carry the actual only")
async def _(web: Web) -> None:
    await fund(web, 100)
    await rank(web, "all")
    await web.until(await buy(web, {"cost": 30}), state="complete")
    assert (await pool_now(web), await used(web)) == ((70, 0, 30), (30, 0))
    (grant,) = (await operator(web, "GET", "grants"))["items"]
    assert (grant["pubkey"], grant["reservedSats"], grant["absorbedSats"]) == (ALICE.pubkey, 100, 30)


@line("record_grant: two equal requests are two grants")
async def _(web: Web) -> None:
    await fund(web, 300)
    await rank(web, "all")
    for job in [await buy(web, {"cost": 30}) for _ in range(2)]:
        await web.until(job, state="complete")
    grants = (await operator(web, "GET", "grants"))["items"]
    assert [grant["absorbedSats"] for grant in grants] == [30, 30]
    assert len({grant["requestHash"] for grant in grants}) == 1


# --- days, limits, caps ------------------------------------------------------------------------------------


@line("a reservation counts on the day on which it was made, even if recorded after midnight")
async def _(web: Web) -> None:
    await fund(web, 100)
    await rank(web, "all")
    job = await buy(web, {"cost": 30, "hold": True})
    await yesterday(web)
    web.service.release.set()
    await web.until(job, state="complete", absorbedSats=30)
    assert (await used(web), await pool_now(web)) == ((0, 0), (70, 0, 0))


@line("a limit check also counts what is reserved: parallel requests can not pass the limit together")
async def _(web: Web) -> None:
    await fund(web, 5000)
    await rank(web, "all")
    jobs = await asyncio.gather(*(buy(web, {"hold": True}) for _ in range(15)))
    assert sorted(job["serve"] for job in jobs) == [Serve.FREE] * 10 + [Serve.GATE] * 5
    assert await used(web) == (0, 1000)


@line("the daily counter counts actual absorbed sats: what was not used can be asked for again")
async def _(web: Web) -> None:
    await fund(web, 5000)
    await rank(web, "all")
    for job in [await buy(web, {"cost": 1}) for _ in range(10)]:
        await web.until(job, state="complete")
    assert await used(web) == (10, 0)
    assert (await buy(web, {"cost": 1}))["serve"] == "free"


# --- payment of a partial job, and its refund --------------------------------------------------------------


@line("partial at payment: exactly the advised absorb is reserved")
async def _(web: Web) -> None:
    await fund(web, 60)
    await rank(web, "half")
    job = await buy(web, {"hold": True})
    web.pay(job)
    await web.until(job, state="executing")
    assert await pool_now(web) == (10, 50, 0)


@line("partial at payment, pool drained: failed, all that was paid is owed, the worker is never called")
async def _(web: Web) -> None:
    await fund(web, 60)
    await rank(web, "half")
    job = await buy(web, {})
    await fund(web, 50)
    await rank(web, "all", Signer(12))
    await buy(web, {"hold": True}, Signer(12))  # takes 100 of the 110
    web.pay(job, 57_500)
    failed = await web.until(job, state="failed")
    assert (failed["refundState"], failed["refundAmountSats"]) == ("pending", 57)
    assert [order["jobId"] for order in web.service.orders].count(job["id"]) == 0


@line("user_charge = max(0, actual - absorbed), refund = paid - user_charge, an overpayment comes back too")
async def _(web: Web) -> None:
    await fund(web, 1000)
    await rank(web, "half")
    for cost, paid_sats, charge in ((70, 50, 20), (70, 55, 20), (100, 50, 50), (50, 50, 0), (20, 50, 0)):
        job = await buy(web, {"cost": cost})
        web.pay(job, paid_sats * 1000)
        done = await web.until(job, state="complete")
        assert (done["userChargeSats"], done["refundAmountSats"]) == (charge, paid_sats - charge)


@line("absorbed = min(actual, reserved)")
async def _(web: Web) -> None:
    await fund(web, 1000)
    await rank(web, "half")
    for cost, absorbed in ((20, 20), (50, 50), (70, 50), (0, 0), (130, 50)):
        job = await buy(web, {"cost": cost})
        web.pay(job)
        await web.until(job, state="complete", absorbedSats=absorbed)


@line("work that fails after payment: everything paid is refunded, the whole reservation is released")
async def _(web: Web) -> None:
    await fund(web, 60)
    await rank(web, "half")
    job = await buy(web, {"fail": True})
    web.pay(job, 51_000)
    failed = await web.until(job, state="failed")
    assert (failed["refundState"], failed["refundAmountSats"]) == ("pending", 51)
    assert (await pool_now(web), await used(web)) == ((60, 0, 0), (0, 0))


@line("under any interleaving the pool never goes below zero and no subsidy is given that it did not fund")
async def _(web: Web) -> None:
    await fund(web, 170)
    await rank(web, "half")
    jobs = await asyncio.gather(*(buy(web, {"cost": 100}) for _ in range(8)))
    for job in jobs:
        web.pay(job)
    ended = [await _ended(web, job) for job in jobs]
    absorbed = sum(job["absorbedSats"] for job in ended)
    # Each of those that ran was helped with exactly 50 sats; the share of what users paid feeds the pool meanwhile.
    ran = [job for job in ended if job["state"] == "complete"]
    shares_msat = sum(job["userChargeSats"] for job in ran) * 1000 // 20
    assert absorbed == 50 * len(ran) <= 170 + shares_msat // 1000
    assert await pool_now(web) == ((170_000 + shares_msat - absorbed * 1000) // 1000, 0, absorbed)


async def _ended(web: Web, job: dict[str, Any]) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        while (seen := await web.job(job))["state"] not in ("complete", "failed"):
            await asyncio.sleep(0.05)
    return seen


# --- abuse -------------------------------------------------------------------------------------------------


@line("a new key gets little or nothing")
async def _(web: Web) -> None:
    await fund(web, 1000)
    assert (await buy(web, {}, Signer(13)))["serve"] == "gate"


@line("a tier rises with sats really paid, never with deposits or refunded sums")
async def _(web: Web) -> None:
    await web.gateway.pool.execute("insert into identities (pubkey, paid_sats) values ($1, 990)", ALICE.pubkey)
    for work_input in ({"cost": 9}, {"fail": True}):  # paid 100 each time, charged 9 and nothing
        job = await buy(web, work_input)
        web.pay(job)
        await _ended(web, job)
    _, me = await signed(web, "GET", "/api/identity")
    assert me["tier"] == "new"
    job = await buy(web, {"cost": 1})
    web.pay(job)
    await web.until(job, state="complete")
    _, me = await signed(web, "GET", "/api/identity")
    assert me["tier"] == "half"


@line("several unpaid partial quotes of one identity stand side by side; payment decides")
async def _(web: Web) -> None:
    await fund(web, 60)
    await rank(web, "half")
    first, second = await buy(web, {"cost": 100}), await buy(web, {"cost": 100})
    assert (first["absorbSats"], second["absorbSats"]) == (50, 50)
    web.pay(second)
    await web.until(second, state="complete")
    web.pay(first)
    await web.until(first, state="failed", refundAmountSats=50)


@line("failures of the worker slow their buyer, a drained pool does not count")
async def _(web: Web) -> None:
    await rank(web, "half")
    for _ in range(6):
        await fund(web, 50)
        job = await buy(web, {})
        await web.gateway.pool.execute("update identities set blocked = true where pubkey = $1", ALICE.pubkey)
        web.pay(job)
        await web.until(job, state="failed", refundState="pending")
        await web.gateway.pool.execute("update identities set blocked = false where pubkey = $1", ALICE.pubkey)
    assert (await buy(web, {}))["state"] == "awaiting_work_payment"
    for _ in range(5):
        await web.until(await web.paid({"fail": True}), state="failed")
    status, problem = await signed(web, "POST", "/api/jobs", {"work": "echo", "input": {}})
    assert (status, problem["code"]) == (429, "slowed")


@pytest.mark.parametrize("says", LINES)
async def test_the_line_holds(web: Web, says: str) -> None:
    await LINES[says](web)
