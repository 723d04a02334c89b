"""A node in memory, for tests that are about something else; it passes the contract tests that real LND passes.

What a test does to it stands under "knobs": they are plain calls, take effect at once, and need no event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ledger.money import Msat
from lightning import bolt11
from lightning.types import (
    BadPaymentRequest,
    CancelOutcome,
    ChannelBalance,
    Failed,
    FailureReason,
    InFlight,
    Invoice,
    InvoiceConflict,
    InvoiceState,
    Liquidity,
    ListedPayment,
    NodeInfo,
    NodeRefused,
    NodeUnavailable,
    NotFound,
    PaymentOutcome,
    PaymentRequest,
    Settled,
    Unknown,
)

OWN_PUBKEY = "02" + "11" * 32
OTHER_PUBKEY = "03" + "22" * 32
MAX_MEMO_BYTES = 639
"""What fits into a BOLT11 description; LND refuses more."""

_PREFIXES = {network: prefix for prefix, network in bolt11.NETWORKS.items()}
_CANCEL_OUTCOMES = {
    InvoiceState.CANCELED: CancelOutcome.CANCELED,
    InvoiceState.SETTLED: CancelOutcome.SETTLED,
    InvoiceState.ACCEPTED: CancelOutcome.STILL_OPEN,
}


@dataclass(frozen=True, slots=True)
class Sent:
    """One `send_payment` that reached the fake."""

    payment_request: str
    payment_hash: bytes
    amount_msat: Msat
    fee_limit_msat: Msat
    cltv_limit: int
    timeout_s: int


class FakeNode:
    """A `Node` whose every answer is decided by the test. `now` is its clock, in aware UTC."""

    def __init__(self, *, network: str = "regtest", now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.network = network
        self.pubkey = OWN_PUBKEY
        self.synced_to_chain = True
        self.balance = ChannelBalance(Msat(8_000_000_000), Msat(8_000_000_000))
        self.next_outcomes: deque[PaymentOutcome] = deque()
        """What the next sends end in; see `send_payment`. Empty: they settle when the fake made the invoice."""
        self.route_fee_msat = Msat(0)
        """What the only route to the invoices that the fake made costs: a smaller fee limit finds none."""
        self.sent: list[Sent] = []
        self._now = now
        self._up = True
        self._answer_lost = False
        self._invoices: dict[bytes, Invoice] = {}
        self._preimages: dict[bytes, bytes] = {}
        self._payments: dict[bytes, PaymentOutcome] = {}
        self._settle_index = 0
        self._payment_index = 0
        self._foreign = 0
        self._streams: dict[asyncio.Queue[Invoice | None], int] = {}
        self._subscribed = asyncio.Event()

    # Knobs

    def settle(self, payment_hash: bytes, amount_msat: int | None = None) -> Invoice:
        """The invoice is paid, with another amount if one is given (an overpayment). KeyError: no such invoice."""
        invoice = self._current(payment_hash)
        if invoice.state not in (InvoiceState.OPEN, InvoiceState.ACCEPTED):
            raise ValueError(f"the invoice is {invoice.state}")
        self._settle_index += 1
        settled = replace(
            invoice,
            state=InvoiceState.SETTLED,
            amount_paid_msat=Msat(invoice.amount_msat if amount_msat is None else amount_msat),
            settle_index=self._settle_index,
            settled_at=self._now().replace(microsecond=0),
        )
        self._invoices[payment_hash] = settled
        if self._up:
            for queue, settle_index in self._streams.items():
                if settled.settle_index > settle_index:
                    queue.put_nowait(settled)
        return settled

    def expire(self, payment_hash: bytes) -> None:
        """As LND does once an unpaid invoice is past its expiry: it cancels it."""
        invoice = self._current(payment_hash)
        if invoice.state is InvoiceState.OPEN:
            self._invoices[payment_hash] = replace(invoice, state=InvoiceState.CANCELED)

    def forget_invoice(self, payment_hash: bytes) -> None:
        self._invoices.pop(payment_hash, None)

    def forget_payments(self) -> None:
        """A node restored from an older backup: its payment history is gone."""
        self._payments.clear()
        self._payment_index = 0

    def go_unavailable(self) -> None:
        """Every call fails and every stream breaks, until `come_back`."""
        self._up = False
        self._subscribed.clear()
        for queue in self._streams:
            queue.put_nowait(None)

    def come_back(self) -> None:
        self._up = True

    def lose_next_answer(self) -> None:
        """The next add, cancel or send takes effect, but its caller only sees a broken connection."""
        self._answer_lost = True

    def resolve(self, payment_hash: bytes, outcome: PaymentOutcome | None = None) -> None:
        """End a payment that is in flight. None: it settles with the preimage of an invoice the fake made."""
        self._payments[payment_hash] = outcome or self._settled(payment_hash, Msat(0))

    def foreign_invoice(
        self,
        amount_msat: int | None,
        *,
        memo: str = "",
        expiry_s: int = 3600,
        min_final_cltv: int = 80,
        description_hash: bytes = b"",
    ) -> str:
        """Another node's invoice, payable by this one. None: amountless."""
        self._foreign += 1
        preimage = hashlib.sha256(f"foreign {self._foreign}".encode()).digest()
        payment_hash = hashlib.sha256(preimage).digest()
        self._preimages[payment_hash] = preimage
        return self._encode(payment_hash, amount_msat or 0, memo, expiry_s, min_final_cltv, description_hash)

    async def subscribed(self) -> None:
        """Returns as soon as someone follows the settlements: what is settled now is delivered live."""
        await self._subscribed.wait()

    # Node

    async def get_info(self) -> NodeInfo:
        self._require_up()
        return NodeInfo(self.pubkey, "fake", self.network, self.synced_to_chain, 100, "0.0.0-fake")

    async def channel_balance(self) -> ChannelBalance:
        self._require_up()
        return self.balance

    async def liquidity(self) -> Liquidity:
        """One channel, with one hundredth of each side as its reserve."""
        self._require_up()
        local, remote = (Msat(side - side // 100) for side in self.balance)
        return Liquidity(1, 1, local, remote)

    async def add_invoice(self, preimage: bytes, amount_msat: Msat, memo: str, expiry_s: int) -> Invoice:
        self._require_up()
        if len(preimage) != 32 or amount_msat <= 0 or expiry_s <= 0:
            raise ValueError("an invoice needs 32 bytes of preimage, an amount and an expiry above zero")
        if len(memo.encode()) > MAX_MEMO_BYTES:
            raise NodeRefused("UNKNOWN", "memo too large")
        payment_hash = hashlib.sha256(preimage).digest()
        known = await self.lookup_invoice(payment_hash)
        if known is not None and known.amount_msat != amount_msat:
            raise InvoiceConflict(f"{payment_hash.hex()} is known with {known.amount_msat} msat")
        invoice = known or self._open(payment_hash, amount_msat, memo, expiry_s)
        self._answer()
        return invoice

    async def lookup_invoice(self, payment_hash: bytes) -> Invoice | None:
        self._require_up()
        return self._current(payment_hash) if payment_hash in self._invoices else None

    async def cancel_invoice(self, payment_hash: bytes) -> CancelOutcome:
        self._require_up()
        if payment_hash not in self._invoices:
            return CancelOutcome.NOT_FOUND
        self.expire(payment_hash)
        self._answer()
        return _CANCEL_OUTCOMES[self._invoices[payment_hash].state]

    async def subscribe_settlements(self, settle_index: int) -> AsyncGenerator[Invoice, None]:
        self._require_up()
        queue: asyncio.Queue[Invoice | None] = asyncio.Queue()
        settled = (i for i in self._invoices.values() if i.state is InvoiceState.SETTLED)
        for invoice in sorted(settled, key=lambda i: i.settle_index):
            if 0 < settle_index < invoice.settle_index:
                queue.put_nowait(invoice)
        self._streams[queue] = settle_index
        self._subscribed.set()
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            del self._streams[queue]
        raise NodeUnavailable("the fake is down")

    async def list_invoices(self, *, after_add_index: int = 0) -> AsyncGenerator[Invoice, None]:
        self._require_up()
        for payment_hash in list(self._invoices):
            invoice = self._current(payment_hash)
            if invoice.add_index > after_add_index:
                yield invoice

    async def decode(self, payment_request: str) -> PaymentRequest:
        parsed = bolt11.read(payment_request)
        self._require_up()
        if parsed.network != self.network:
            raise BadPaymentRequest(f"invoice not for current active network {self.network!r}")
        return PaymentRequest(
            payment_request=payment_request,
            network=parsed.network,
            destination=self.pubkey if parsed.payment_hash in self._invoices else OTHER_PUBKEY,
            payment_hash=parsed.payment_hash,
            amount_msat=parsed.amount_msat,
            created_at=parsed.created_at,
            expires_at=parsed.expires_at,
            min_final_cltv=parsed.min_final_cltv,
            description=parsed.description,
            description_hash=parsed.description_hash,
        )

    async def send_payment(
        self,
        payment_request: str,
        *,
        amount_msat: Msat | None,
        fee_limit_msat: Msat,
        cltv_limit: int,
        timeout_s: int,
        deadline_s: float,
    ) -> PaymentOutcome:
        """Ends in the next of `next_outcomes`. Unknown there: it is in flight, and the caller is not told.
        NotFound there: it never reached the node.
        """
        try:
            parsed = bolt11.read(payment_request)
        except BadPaymentRequest as error:
            return Unknown(f"nothing was sent: {error}")
        if not self._up:
            return Unknown("UNAVAILABLE: the fake is down")
        if (refusal := self._refusal(parsed, amount_msat)) is not None:
            return refusal
        amount = amount_msat or parsed.amount_msat
        sent = Sent(payment_request, parsed.payment_hash, amount, fee_limit_msat, cltv_limit, timeout_s)
        self.sent.append(sent)
        return self._pay(sent)

    async def track_payment(self, payment_hash: bytes, *, deadline_s: float) -> PaymentOutcome:
        if not self._up:
            return Unknown("UNAVAILABLE: the fake is down")
        return self._payments.get(payment_hash, NotFound())

    async def identity(self) -> NodeInfo:
        return await self.get_info()

    async def highest_payment_index(self) -> int:
        self._require_up()
        return self._payment_index

    async def list_payments(self) -> AsyncGenerator[ListedPayment, None]:
        self._require_up()
        for payment_hash, outcome in list(self._payments.items()):
            yield ListedPayment(payment_hash, outcome)

    # The inside

    def _require_up(self) -> None:
        if not self._up:
            raise NodeUnavailable("the fake is down")

    def _answer(self) -> None:
        if self._answer_lost:
            self._answer_lost = False
            raise NodeUnavailable("the answer was lost")

    def _current(self, payment_hash: bytes) -> Invoice:
        invoice = self._invoices[payment_hash]
        if invoice.state is InvoiceState.OPEN and invoice.expires_at <= self._now():
            invoice = self._invoices[payment_hash] = replace(invoice, state=InvoiceState.CANCELED)
        return invoice

    def _open(self, payment_hash: bytes, amount_msat: Msat, memo: str, expiry_s: int) -> Invoice:
        request = self._encode(payment_hash, amount_msat, memo, expiry_s, 80)
        made = bolt11.read(request)
        self._invoices[payment_hash] = Invoice(
            payment_hash=payment_hash,
            payment_request=request,
            memo=memo,
            amount_msat=amount_msat,
            amount_paid_msat=Msat(0),
            state=InvoiceState.OPEN,
            created_at=made.created_at,
            expires_at=made.expires_at,
            add_index=max((i.add_index for i in self._invoices.values()), default=0) + 1,
            settle_index=0,
            settled_at=None,
        )
        return self._invoices[payment_hash]

    def _refusal(self, parsed: bolt11.Bolt11, amount_msat: Msat | None) -> Unknown | None:
        """What LND answers with an error: the caller knows nothing by it."""
        if parsed.payment_hash in self._invoices:
            return Unknown("UNKNOWN: self-payments not allowed")
        if parsed.expires_at < self._now():
            return Unknown("UNKNOWN: invoice expired")
        if bool(parsed.amount_msat) == bool(amount_msat):
            return Unknown("UNKNOWN: an amount must be given for an amountless invoice, and only then")
        if isinstance(self._payments.get(parsed.payment_hash), InFlight | Settled):
            return Unknown("ALREADY_EXISTS: payment is in transition or already paid")
        return None

    def _pay(self, sent: Sent) -> PaymentOutcome:
        outcome = self.next_outcomes.popleft() if self.next_outcomes else None
        if isinstance(outcome, NotFound):
            return Unknown("the send was lost on the way")
        self._payment_index += 1
        if outcome is None and sent.fee_limit_msat < self.route_fee_msat:
            outcome = Failed(FailureReason.NO_ROUTE, 0)
        if outcome is None:
            outcome = self._settled(sent.payment_hash, sent.amount_msat)
        elif isinstance(outcome, Failed):
            outcome = Failed(outcome.reason, self._payment_index)
        self._payments[sent.payment_hash] = InFlight() if isinstance(outcome, Unknown) else outcome
        if self._answer_lost:
            self._answer_lost = False
            return Unknown("the answer was lost")
        return outcome

    def _settled(self, payment_hash: bytes, amount_msat: Msat) -> PaymentOutcome:
        preimage = self._preimages.get(payment_hash)
        if preimage is None:
            return Failed(FailureReason.NO_ROUTE, self._payment_index)
        amount = next((s.amount_msat for s in self.sent if s.payment_hash == payment_hash), amount_msat)
        return Settled(preimage, amount, self.route_fee_msat, self._payment_index)

    def _encode(
        self,
        payment_hash: bytes,
        amount_msat: int,
        memo: str,
        expiry_s: int,
        min_final_cltv: int,
        description_hash: bytes = b"",
    ) -> str:
        """A BOLT11 string like any other, but for its signature, which is all zeros."""
        hrp = f"ln{_PREFIXES[self.network]}" + (f"{amount_msat * 10}p" if amount_msat else "")
        words = [
            *_words(int(self._now().timestamp()), bolt11.TIMESTAMP_WORDS),
            *_field("p", _byte_words(payment_hash)),
            *(
                _field("h", _byte_words(description_hash))
                if description_hash
                else _field("d", _byte_words(memo.encode()))
            ),
            *_field("x", _words(expiry_s)),
            *_field("c", _words(min_final_cltv)),
            *[0] * bolt11.SIGNATURE_WORDS,
        ]
        words += bolt11.checksum(hrp, words)
        return f"{hrp}1{''.join(bolt11.CHARSET[word] for word in words)}"


def _field(tag: str, words: list[int]) -> list[int]:
    return [bolt11.CHARSET.index(tag), *divmod(len(words), 32), *words]


def _words(number: int, size: int | None = None) -> list[int]:
    size = size or -(-number.bit_length() // 5)
    return [(number >> 5 * (size - 1 - i)) & 31 for i in range(size)]


def _byte_words(data: bytes) -> list[int]:
    if not data:
        return []
    size = -(-len(data) * 8 // 5)
    return _words(int.from_bytes(data, "big") << (size * 5 - len(data) * 8), size)
