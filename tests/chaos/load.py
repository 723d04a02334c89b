"""Buyers who never give up: each takes one order to its end, whatever dies meanwhile, and says what it saw."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from lightning.bolt11 import read
from lightning.regtest.control import NodeError, NotReady
from lightning.types import InFlight
from tests.chaos.plan import Order, order
from tests.chaos.world import INVOICE_EXPIRY_S, World, patiently
from tests.nostr import Signer, header

POLL_S = 0.25
CLAIM_EXPIRY_S = 90
"""A send that nobody can account for is given up 60 s after its invoice expired: so long may the end take."""
ORDER_TIMEOUT_S = 420
STUCK_AFTER_S = 45
TRY_AGAIN = (429, 503)
ENDED = ("complete", "failed", "expired")
REFUSALS = {
    (409, "nothing_to_refund"),
    (409, "refund_in_progress"),
    (409, "destination_used"),
    (422, "destination_expired"),
    (422, "destination_wrong_amount"),
}
"""What a claim may be answered in a race with itself, or with time."""


class Unexpected(AssertionError):
    """The gateway answered what it must not, whatever died."""


@dataclass
class Shopper:
    world: World
    order: Order
    job: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)
    """The job as it was last seen."""
    claims: list[bytes] = field(default_factory=list)
    """Payment hashes of all invoices that the buyer gave as a destination."""
    signer: Signer | None = None
    stuck: bool = False
    """LND lost track of a payment of it: the order can not end in this run."""
    _stuck_since: float | None = None
    _holds: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def hashes(self) -> list[bytes]:
        """Of its own invoice, if it has one, and of all that it gave as a destination."""
        return [*([read(self.request).payment_hash] if self.job.get("invoice") else []), *self.claims]

    async def run(self) -> bool:
        """False: the run was over before the order was taken."""
        await self._known()
        if not await self._buy():
            return False
        async with asyncio.timeout(ORDER_TIMEOUT_S):
            if self.order.kind != "free":
                await self._pay()
            await self._until_over()
            await asyncio.gather(*self._holds, return_exceptions=self.stuck)
        return True

    async def _known(self) -> None:
        tier = {"partial": "half", "free": "all"}.get(self.order.kind)
        if tier is None:
            return
        self.signer = Signer(10_000 + self.order.number)
        insert = "insert into identities (pubkey, operator_tier) values ($1, $2) on conflict do nothing"
        await patiently(lambda: self.world.pool.execute(insert, self.signer.pubkey, tier))

    async def _buy(self) -> bool:
        raw, key = await self._ask()
        while not self.world.stopping.is_set():
            status, answer = await self._call("POST", "/api/jobs", raw, key)
            if status == 201:
                self.job = answer
                return True
            if answer.get("code") == "destination_expired":
                raw, key = await self._ask()
            elif status not in (*TRY_AGAIN, 0) and answer.get("code") != "idempotency_key_in_use":
                raise Unexpected(f"order {self.order}: {status} {answer}")
            await asyncio.sleep(POLL_S)
        return False

    async def _ask(self) -> tuple[bytes, dict[str, str]]:
        """The body, and the key that makes it one order however often it is sent."""
        body: dict[str, Any] = {"work": "echo", "input": self.order.work_input}
        if self.order.claim == "on_file":
            body["refundTo"] = await self._invoice(0)
        return json.dumps(body).encode(), {"Idempotency-Key": f"order-{self.order.number}-{secrets.token_hex(16)}"}

    async def _call(self, method: str, path: str, raw: bytes = b"", more: Mapping[str, str] = {}) -> tuple[int, Any]:
        """Status 0: no answer. Each buyer has an address of its own; one with a key signs what it buys."""
        number, url = self.order.number, f"{self.world.buyer.url}{path}"
        headers = {"X-Forwarded-For": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", **more}
        if raw:
            headers["Content-Type"] = "application/json"
        if self.job:
            headers["Authorization"] = f"Bearer {self.job['token']}"
        elif self.signer is not None:
            headers |= header(self.signer.call(method, url, raw, content=secrets.token_hex(8)))
        try:
            async with self.world.buyer.http.request(method, url, data=raw or None, headers=headers) as response:
                status, answer = response.status, await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            return 0, {}
        if status >= 500 and status != 503:
            self.world.log.write("fault", status=status, path=path, answer=answer)
            raise Unexpected(f"{method} {path}: {status} {answer}")
        return status, answer

    async def _look(self) -> dict[str, Any]:
        status, answer = await self._call("GET", f"/api/jobs/{self.job['id']}")
        if status == 200:
            self.seen = answer
            return dict(answer)
        if status not in (*TRY_AGAIN, 0):
            raise Unexpected(f"job {self.job['id']}: {status} {answer}")
        return {}

    # Paying

    @property
    def request(self) -> str:
        return str(self.job["invoice"]["paymentRequest"])

    async def _pay(self) -> None:
        """Tries until the invoice has expired; a late or a racing buyer tries once."""
        expires_in_s = INVOICE_EXPIRY_S - 0.5
        if self.order.kind == "late":
            await asyncio.sleep(expires_in_s + self.order.wait_s)
            await self._send()
        elif self.order.kind == "cancelled":
            await asyncio.gather(self._send(), self._cancel())
        else:
            loop = asyncio.get_running_loop()
            over = loop.time() + expires_in_s
            while not await self._send() and loop.time() < over:
                await asyncio.sleep(1)

    async def _cancel(self) -> None:
        await asyncio.sleep(self.order.wait_s)
        await self._call("POST", f"/api/jobs/{self.job['id']}/cancel")

    async def _send(self) -> bool:
        """Whether it arrived, as far as the payer's node says now."""
        try:
            if self.order.kind == "overpaid":
                amount_msat = self.job["invoice"]["amountSats"] * 1100
                return (await self.world.payer.overpay(self.request, amount_msat=amount_msat)).succeeded
            return (await self.world.payer.pay(self.request)).succeeded
        except NodeError as error:
            # Expired, paid already, or under way since an earlier try: the lists of the node tell at the end.
            return error.code == "ALREADY_EXISTS"

    # What is owed

    async def _until_over(self) -> None:
        """The job has ended, nothing is pending or under way, and nothing of it is still to settle."""
        while True:
            seen = await self._look()
            if seen.get("refundState") == "pending":
                await self._claim(seen["refundAmountSats"])
            elif seen.get("state") in ENDED and seen["refundState"] in ("none", "paid") and await self._is_final():
                return
            elif await self._is_stuck():
                self.stuck = True
                for hold in self._holds:
                    hold.cancel()
                return
            await asyncio.sleep(POLL_S)

    async def _is_final(self) -> bool:
        """An expired job was not paid, or what was paid late has come back."""
        if self.seen["state"] != "expired":
            return True
        payment = await self.world.payer.payment(read(self.request).payment_hash)
        return payment is None or payment.status == "failed" or self.seen["refundState"] == "paid"

    async def _is_stuck(self) -> bool:
        """LND itself lost track of a payment, and has not found it again for a while (docs/chaos.md)."""
        if not await self._is_lost():
            self._stuck_since = None
            return False
        now = asyncio.get_running_loop().time()
        self._stuck_since = self._stuck_since or now
        return now - self._stuck_since > STUCK_AFTER_S

    async def _is_lost(self) -> bool:
        """It lies in a channel that is not active, or its sender calls it in flight and it lies in no channel."""
        pending = await self.world.payer.pending_htlcs()
        own = [payment_hash for payment_hash in self.hashes if payment_hash in pending]
        if own:
            return not all(pending[payment_hash] for payment_hash in own)
        paid = await self.world.payer.payment(read(self.request).payment_hash) if self.job.get("invoice") else None
        if paid is not None and paid.status == "in_flight":
            return True
        if self.seen.get("refundState") != "paying":
            return False
        seen = [await self.world.node.track_payment(payment_hash, deadline_s=1) for payment_hash in self.claims]
        return any(isinstance(outcome, InFlight) for outcome in seen)

    async def _claim(self, amount_sats: int) -> None:
        first = not self.claims
        if first and self.order.claim.startswith("held"):
            text, preimage = await self.world.payer.hold_invoice(amount_sats, expiry_s=CLAIM_EXPIRY_S)
            self.claims.append(read(text).payment_hash)
            self._holds.append(asyncio.create_task(self._hold(preimage, read(text).payment_hash)))
        elif self.order.claim == "on_file" and not self.seen.get("refundProblem"):
            return
        else:
            text = await self._invoice(0 if first and self.order.claim == "amountless" else amount_sats)
        raw = json.dumps({"destination": text}).encode()
        while True:
            status, answer = await self._call("POST", f"/api/jobs/{self.job['id']}/refund", raw)
            if status == 202 or (status, answer.get("code")) in REFUSALS:
                return
            if status not in (*TRY_AGAIN, 0):
                raise Unexpected(f"refund of {self.job['id']}: {status} {answer}")
            await asyncio.sleep(POLL_S)

    async def _invoice(self, amount_sats: int) -> str:
        text = await self.world.payer.invoice(amount_sats, expiry_s=CLAIM_EXPIRY_S)
        self.claims.append(read(text).payment_hash)
        return text

    async def _hold(self, preimage: bytes, payment_hash: bytes) -> None:
        """Keeps the payment in flight for a while, then takes or refuses it."""
        payer, loop = self.world.payer, asyncio.get_running_loop()
        until = loop.time() + CLAIM_EXPIRY_S
        while True:
            try:
                await payer.wait_accepted(payment_hash, timeout_s=10)
                break
            except NotReady:
                if loop.time() > until:
                    return
        await asyncio.sleep(self.order.held_s)
        takes = self.order.claim == "held_taken"
        self.world.log.write("took" if takes else "refused", order=self.order.number)
        try:
            await (payer.settle(preimage) if takes else payer.cancel(payment_hash))
        except NodeError as error:
            # The sender gave up in between (its own time limit): the invoice is open or canceled, and was not paid.
            self.world.log.write("unheld", order=self.order.number, why=error.detail[:80])


async def keep_buying(world: World, seed: int, buyers: int) -> list[Shopper]:
    """So many buyers at once until the world stops; all those whose order was taken, at their end."""
    done: list[Shopper] = []
    numbers = iter(range(1, 1_000_000))

    async def one_after_another() -> None:
        while not world.stopping.is_set():
            shopper = Shopper(world, order(seed, next(numbers)))
            try:
                taken = await shopper.run()
            except TimeoutError:
                raise AssertionError(f"order {shopper.order} never ended: {shopper.seen}") from None
            if taken:
                done.append(shopper)
                world.log.write("order", **told(shopper))

    async with asyncio.TaskGroup() as group:
        for _ in range(buyers):
            group.create_task(one_after_another())
    return done


def told(shopper: Shopper) -> dict[str, Any]:
    seen = shopper.seen
    return {
        "n": shopper.order.number,
        "kind": shopper.order.kind,
        "claim": shopper.order.claim,
        "state": seen["state"],
        "refund": seen["refundState"],
        "sats": seen.get("refundAmountSats", 0),
        "claims": len(shopper.claims),
        **({"stuck": True} if shopper.stuck else {}),
    }
