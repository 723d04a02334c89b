"""What is left wrong by a SIGKILL in the middle, and by bodies that no client should send."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from gateway.api.routes import ROUTES
from gateway.bench.node_rates import COST_SATS, WAITING, at_once, owing
from gateway.bench.node_world import PRICE_SATS, BenchWorld
from lightning.bolt11 import read

INCOMING, SENDS = 40, 12
SETTLED_BEFORE_THE_KILL = 10
WATCH_S = 30.0
"""So long is waited for what is wrong to become right by itself."""

MALFORMED: tuple[bytes, ...] = (
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"0",
    b"NaN",
    b"\xff\xfe\x00",
    b'{"\xed\xa0\x80":1}',
    b"[" * 20_000,
    b'{"a":' * 20_000,
    b'{"work":1,"input":2}',
    b'{"work":"bench"}',
    b'{"work":"bench","input":[]}',
    b'{"work":"bench","input":{"cost":1e999}}',
    b'{"work":"bench","input":{"cost":NaN}}',
    b'{"work":"bench","input":{"cost":1},"refundTo":""}',
    b'{"work":"bench","input":{"cost":1},"refundTo":"lnbcrt"}',
    b'{"work":"bench","input":{"cost":1},"refundTo":"a@"}',
    b'{"work":"bench\\u0000","input":{}}',
    b'{"work":"bench","input":{"text":"\\ud800"}}',
    b'{"work":"bench","input":{"text":"\\u0000"}}',
    b'{"work":"' + b"x" * 100_000 + b'","input":{}}',
    b'{"amountSats":0.4}',
    b'{"amountSats":0}',
    b'{"amountSats":-1}',
    b'{"amountSats":"1"}',
    b'{"amountSats":true}',
    b'{"amountSats":null}',
    b'{"amountSats":1e400}',
    b'{"amountSats":' + b"9" * 5_000 + b"}",
    b'{"destination":1}',
    b'{"destination":"lnbcrt1"}',
    b'{"destination":"lnurl1"}',
    b'{"destination":"\\ud800"}',
    b'{"destination":"' + b"l" * 5_000 + b'"}',
)


@dataclass(slots=True)
class Left:
    """How many were wrong when the gateway was back, and after how long none was (None: not within the watch)."""

    in_all: int
    at_first: int = 0
    at_last: int = 0
    right_after_s: float | None = None


async def watch(left: Left, count_wrong: Callable[[], Awaitable[int]]) -> Left:
    loop = asyncio.get_running_loop()
    start = loop.time()
    left.at_first = left.at_last = await count_wrong()
    while left.at_last and loop.time() - start < WATCH_S:
        await asyncio.sleep(0.1)
        left.at_last = await count_wrong()
    if not left.at_last:
        left.right_after_s = loop.time() - start
    return left


async def killed_while_paid(world: BenchWorld) -> Left:
    """SIGKILL while payments come in: invoices that LND calls settled and the gateway does not credit."""
    jobs = await at_once(16, range(INCOMING), lambda _: world.buy())
    hashes = {job["id"]: bytes.fromhex(job["invoice"]["paymentHash"]) for job in jobs}
    paying = [asyncio.create_task(world.pay(world.payer, job["invoice"]["paymentRequest"])) for job in jobs]
    settling = asyncio.as_completed([world.until_settled(payment_hash) for payment_hash in hashes.values()])
    for settled in islice(settling, SETTLED_BEFORE_THE_KILL):
        await settled
    await world.served.kill()
    await asyncio.gather(*paying)
    await world.served.start()

    async def uncredited() -> int:
        seen = await asyncio.gather(*(world.job(job) for job in jobs))
        settled = [job for job in seen if hashes[job["id"]] in world.settled_at]
        return sum(job["state"] in (WAITING, "expired") for job in settled)

    return await watch(Left(sum(h in world.settled_at for h in hashes.values())), uncredited)


async def killed_while_sending(world: BenchWorld) -> Left:
    """SIGKILL with refunds in flight; half are then taken, half refused: refunds that say something else."""
    jobs = await owing(world, SENDS)
    held = [await world.payer_hand.hold_invoice(PRICE_SATS - COST_SATS) for _ in jobs]
    await asyncio.gather(*(world.refund(job, request) for job, (request, _) in zip(jobs, held, strict=True)))
    await asyncio.gather(*(world.payer_hand.wait_accepted(read(request).payment_hash) for request, _ in held))
    await world.served.kill()
    wanted: dict[str, str] = {}
    for number, (job, (request, preimage)) in enumerate(zip(jobs, held, strict=True)):
        taken = number % 2 == 0
        hand = world.payer_hand
        await (hand.settle(preimage) if taken else hand.cancel(read(request).payment_hash))
        wanted[job["id"]] = "paid" if taken else "pending"
    await world.served.start()

    async def wrong() -> int:
        seen = await asyncio.gather(*(world.job(job) for job in jobs))
        return sum(job["refundState"] != wanted[job["id"]] for job in seen)

    return await watch(Left(SENDS), wrong)


@dataclass(slots=True)
class Malformed:
    sent: int = 0
    faults: list[str] = field(default_factory=list)
    """Answers with 500 or more."""
    accepted: list[str] = field(default_factory=list)
    """Nonsense that was taken for sense."""


async def malformed(world: BenchWorld) -> Malformed:
    """Each body at each address that takes one."""
    result, job = Malformed(), await world.buy()
    posts = [route for route in ROUTES if route.method == "POST" and not route.path.endswith("/cancel")]
    of_amounts = {route.path for route in posts if route.body and "amount_sats" in route.body.model_fields}
    headers = {"Authorization": f"Bearer {job['token']}", "Content-Type": "application/json"}

    async def one(case: tuple[str, bytes]) -> None:
        path, body = case
        result.sent += 1
        async with world.http.post(f"{world.served.url}{path}", data=body, headers=headers) as response:
            answer: Any = await response.text()
            if response.status >= 500:
                result.faults.append(f"{path} {body[:60]!r}: {response.status} {answer[:200]}")
            elif response.status < 300 and path in of_amounts and b"amountSats" in body:
                result.accepted.append(f"{path} {body[:60]!r}: {response.status} {answer[:200]}")

    cases = [(route.path.replace("{id}", job["id"]), body) for route in posts for body in MALFORMED]
    await at_once(4, cases, one)
    return result
