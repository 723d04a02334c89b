"""One buyer and one job: bought, paid, refunded, whatever dies meanwhile. What it must cost is known beforehand."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import aiohttp

from lightning.bolt11 import read
from lightning.regtest.control import AsyncControl, NodeError, NotReady, PaymentStatus
from tests.chaos.log import EventLog
from tests.nostr import Signer, header

POLL_S = 0.15
CALL_TIMEOUT_S = 15
ENDED = ("complete", "failed", "rejected", "expired")
PAYABLE = ("awaiting_eval_payment", "awaiting_work_payment")


class Kind(StrEnum):
    GATE = "gate"
    FAILING = "failing"
    OVERPAID = "overpaid"
    PARTIAL = "partial"
    FREE = "free"
    LOOKED_AT = "looked at"
    ABANDONED = "abandoned"


class Back(StrEnum):
    """How its rest is taken."""

    EXACT = "exact"
    AMOUNTLESS = "amountless"
    ON_FILE = "on file"
    HELD_SETTLED = "held, then settled"
    HELD_CANCELED = "held, then canceled"


@dataclass(frozen=True, slots=True)
class Plan:
    work: str
    work_input: dict[str, Any]
    charge_sats: int
    """What it costs the buyer when the work is done (without a fee for looking at it)."""
    tier: str | None = None
    overpaid_msat: int = 0


PLANS = {
    Kind.GATE: Plan("echo", {"cost": 70}, 70),
    Kind.FAILING: Plan("echo", {"fail": True}, 0),
    Kind.OVERPAID: Plan("echo", {"cost": 70}, 70, overpaid_msat=10_500),
    Kind.PARTIAL: Plan("echo", {"cost": 70}, 20, tier="half"),
    Kind.FREE: Plan("echo", {"cost": 30}, 0, tier="all"),
    Kind.LOOKED_AT: Plan("looked-at", {"verdict": {"accept": True, "estimateSats": 60}, "cost": 40}, 40),
    Kind.ABANDONED: Plan("echo", {"cost": 70}, 0),
}
LOOK_FEE_SATS = 10


@dataclass
class Purchase:
    """`number` makes it reproducible: its key, its address, its choices."""

    number: int
    url: str
    http: aiohttp.ClientSession
    payer: AsyncControl
    log: EventLog
    random: random.Random
    kind: Kind = field(init=False)
    back: Back = field(init=False)
    paid: set[bytes] = field(default_factory=set)
    """Payment hashes that the payer was asked to pay."""
    given: list[str] = field(default_factory=list)
    """Invoices of the payer that were given as destinations."""
    last: dict[str, Any] = field(default_factory=dict)
    answers: deque[Any] = field(default_factory=lambda: deque(maxlen=4))
    """The last that the server said, for whoever has to find out why."""
    faults_500: int = 0

    def __post_init__(self) -> None:
        self.kind = self.random.choice(list(Kind))
        self.back = self.random.choice(list(Back))
        self.work_s = self.random.choice((0.0, 0.0, 0.5, 2.0))
        self.key = secrets.token_urlsafe(24)
        self.signer = Signer(5000 + self.number)
        self.token = ""

    @property
    def plan(self) -> Plan:
        return PLANS[self.kind]

    async def run(self, within_s: float) -> None:
        """Raises AssertionError: it was not over in time."""
        try:
            async with asyncio.timeout(within_s):
                await self._run()
        except TimeoutError:
            facts = (self.number, self.kind, self.back, self.last, self.answers)
            raise AssertionError(f"still waiting: {facts}") from None

    async def _run(self) -> None:
        await self._buy()
        cancels = self.kind is Kind.ABANDONED
        while True:
            await self._look()
            state, refund = self.last["state"], self.last["refundState"]
            if state in ENDED and refund in ("none", "paid"):
                break
            if cancels and state in PAYABLE:
                await self._call("POST", f"/api/jobs/{self.last['id']}/cancel")
            elif state in PAYABLE and "invoice" in self.last:
                await self._pay(self.last["invoice"]["paymentRequest"])
            elif (refund == "pending" and self.back is not Back.ON_FILE) or self._refused():
                await self._claim()
            await asyncio.sleep(POLL_S)
        self.log.tell("job", n=self.number, kind=self.kind, back=self.back, state=self.last["state"])

    # --- buying and paying

    async def _buy(self) -> None:
        body: dict[str, Any] = {"work": self.plan.work, "input": {**self.plan.work_input, "seconds": self.work_s}}
        if self.back is Back.ON_FILE:
            body["refundTo"] = await self._invoice(0)
        while True:
            status, answer = await self._call("POST", "/api/jobs", body)
            if status == 201:
                self.token, self.last = answer["token"], answer
                return
            assert status in (None, 409, 429, 500, 503), (status, answer)
            await asyncio.sleep(POLL_S)

    async def _pay(self, payment_request: str) -> None:
        """Until the payer's node says that it succeeded; a payment that waits for the killed node is followed."""
        payment_hash = read(payment_request).payment_hash
        self.paid.add(payment_hash)
        try:
            known = await self.payer.payment(payment_hash)
            if known is not None and known.status in (PaymentStatus.IN_FLIGHT, PaymentStatus.SUCCEEDED):
                return
            if self.plan.overpaid_msat:
                amount_msat = 100_000 + self.plan.overpaid_msat
                await self.payer.overpay(payment_request, amount_msat=amount_msat)
            else:
                await self.payer.pay(payment_request, timeout_s=10)
        except NodeError:
            return

    # --- taking the rest

    def _refused(self) -> bool:
        """What was on file can not be paid any more: another is given."""
        return self.last["refundState"] == "pending" and "refundProblem" in self.last

    async def _claim(self) -> None:
        owed_sats = self.last["refundAmountSats"]
        first = not self.given
        held = first and self.back in (Back.HELD_SETTLED, Back.HELD_CANCELED)
        if held:
            invoice, preimage = await self._held_invoice(owed_sats)
        elif self.given and "refundProblem" not in self.last and not await self._is_dead(self.given[-1]):
            invoice, preimage = self.given[-1], b""  # the claim may not have arrived: the same again
        else:
            invoice, preimage = await self._invoice(0 if self.back is Back.AMOUNTLESS else owed_sats), b""
        body = {"destination": invoice}
        status, answer = await self._call("POST", f"/api/jobs/{self.last['id']}/refund", body)
        assert status in (None, 202, 409, 422, 500, 503), (status, answer)
        if held:
            await self._end_held(invoice, preimage)

    async def _end_held(self, invoice: str, preimage: bytes) -> None:
        """The payment is in flight for a while, then taken or sent back."""
        payment_hash = read(invoice).payment_hash
        try:
            await self.payer.wait_accepted(payment_hash, 20.0)
        except NotReady:
            await self.payer.cancel(payment_hash)  # it was never claimed, or waits for a node that is away
            return
        await asyncio.sleep(self.random.uniform(0.1, 4.0))
        self.log.tell("held", n=self.number, then=self.back)
        try:
            if self.back is Back.HELD_SETTLED:
                await self.payer.settle(preimage)
            else:
                await self.payer.cancel(payment_hash)
        except NodeError as error:
            self.log.tell("held payment had gone", n=self.number, why=error.detail[:100])

    async def _invoice(self, sats: int) -> str:
        self.given.append(await self.payer.invoice(sats, memo=f"back {self.number}"))
        return self.given[-1]

    async def _held_invoice(self, sats: int) -> tuple[str, bytes]:
        invoice, preimage = await self.payer.hold_invoice(sats, memo=f"back {self.number}")
        self.given.append(invoice)
        return invoice, preimage

    async def _is_dead(self, invoice: str) -> bool:
        seen = await self.payer.lookup(read(invoice).payment_hash)
        return seen is None or seen.state == "canceled"

    # --- the API

    async def _look(self) -> None:
        while True:
            status, answer = await self._call("GET", f"/api/jobs/{self.last['id']}")
            if status == 200:
                self.last = answer
                return
            assert status in (None, 500, 503), (status, answer)
            await asyncio.sleep(POLL_S)

    async def _call(self, method: str, path: str, body: Any = None) -> tuple[int | None, Any]:
        """`(status, answer)`; no status when the server was not there, or went away meanwhile."""
        raw = b"" if body is None else json.dumps(body).encode()
        address = f"10.{self.number >> 16 & 255}.{self.number >> 8 & 255}.{self.number & 255}"
        headers = {"X-Forwarded-For": address}
        if raw:
            headers["Content-Type"] = "application/json"
        if path == "/api/jobs":
            headers["Idempotency-Key"] = self.key
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        elif self.plan.tier is not None:
            event = self.signer.call(method, f"{self.url}{path}", raw, content=secrets.token_hex(8))
            headers |= header(event)
        try:
            timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
            url = f"{self.url}{path}"
            async with self.http.request(method, url, data=raw or None, headers=headers, timeout=timeout) as response:
                answer = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None, None
        if method != "GET":
            self.answers.append((method, path, response.status, answer))
        if response.status == 500:
            self.faults_500 += 1
            self.log.tell("http 500", n=self.number, path=path, answer=answer)
        return response.status, answer

    # --- what it cost, as the payer's node tells it

    async def verify(self) -> int:
        """Raises AssertionError; the sats that it cost the payer's node, in msat."""
        paid_msat = 0
        for payment_hash in self.paid:
            payment = await self.payer.payment(payment_hash)
            if payment is not None and payment.succeeded:
                assert payment.fee_msat == 0
                paid_msat += payment.amount_msat
        received_msat = 0
        for invoice in self.given:
            seen = await self.payer.lookup(read(invoice).payment_hash)
            assert seen is not None
            received_msat += seen.amount_paid_msat if seen.state == "settled" else 0
        expected_msat = self._expected_sats() * 1000
        if expected_msat or paid_msat:
            expected_msat += paid_msat % 1000  # below a sat: it stays on account
        facts = (self.number, self.kind, self.back, paid_msat, received_msat, self.last)
        assert paid_msat - received_msat == expected_msat, facts
        return expected_msat

    def _expected_sats(self) -> int:
        looked = self.last.get("evaluation", {}).get("outcome") in ("accepted", "rejected")
        fee_sats = LOOK_FEE_SATS if looked else 0
        return fee_sats + (self.plan.charge_sats if self.last["state"] == "complete" else 0)
