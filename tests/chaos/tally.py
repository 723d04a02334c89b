"""Every owed sat arrived once: said by the payer's own node, by its lists of payments and of invoices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lightning.lnd import LndNode
from lightning.types import InvoiceState, Settled
from tests.chaos.load import Shopper


@dataclass(frozen=True, slots=True)
class PayersLists:
    """Amounts in msat by payment hash."""

    paid: dict[bytes, int]
    received: dict[bytes, int]
    unfinished: frozenset[bytes]
    """Payments that can still end either way, and invoices that hold one."""


async def payers_lists(payer: LndNode) -> PayersLists:
    """All of both lists, in pages."""
    paid: dict[bytes, int] = {}
    received: dict[bytes, int] = {}
    unfinished: set[bytes] = set()
    async for payment in payer.list_payments():
        match payment.outcome:
            case Settled(amount_msat=amount_msat):
                paid[payment.payment_hash] = amount_msat
            case outcome if type(outcome).__name__ in ("InFlight", "Unknown"):
                unfinished.add(payment.payment_hash)
    async for invoice in payer.list_invoices():
        if invoice.state is InvoiceState.SETTLED:
            received[invoice.payment_hash] = invoice.amount_paid_msat
        elif invoice.state is InvoiceState.ACCEPTED:
            unfinished.add(invoice.payment_hash)
    return PayersLists(paid, received, frozenset(unfinished))


@dataclass
class Tally:
    orders: int = 0
    payments: int = 0
    paid_msat: int = 0
    charged_msat: int = 0
    refunds: int = 0
    refunded_msat: int = 0
    destinations: int = 0
    stuck: int = 0
    """Orders with a payment that LND lost track of: judged only for not having been paid too much."""
    differences: list[str] = field(default_factory=list)


def tally(shoppers: Sequence[Shopper], before: PayersLists, after: PayersLists) -> Tally:
    """Per order: received = paid − charge, to the msat; and nothing moved that belongs to no order. Pure."""
    result = Tally()
    known: set[bytes] = set()
    for shopper in shoppers:
        known.update(shopper.hashes)
        _count(result, shopper, after)
    for name, now, then in (("paid", after.paid, before.paid), ("received", after.received, before.received)):
        strange = now.keys() - then.keys() - known
        result.differences += [f"{payment_hash.hex()} was {name} for no order" for payment_hash in strange]
    unfinished = after.unfinished - {h for shopper in shoppers if shopper.stuck for h in shopper.hashes}
    result.differences += [f"{payment_hash.hex()} has not ended" for payment_hash in unfinished]
    return result


def _count(result: Tally, shopper: Shopper, after: PayersLists) -> None:
    paid_msat = sum(after.paid.get(payment_hash, 0) for payment_hash in shopper.hashes)
    received = [after.received[payment_hash] for payment_hash in shopper.claims if payment_hash in after.received]
    state = shopper.seen["state"]
    charged_msat = shopper.order.charge_sats(state) * 1000
    owed_msat = paid_msat - charged_msat
    result.orders += 1
    result.payments += bool(paid_msat)
    result.paid_msat += paid_msat
    result.charged_msat += charged_msat
    result.refunds += len(received)
    result.refunded_msat += sum(received)
    result.destinations += len(shopper.claims)
    wrong = []
    result.stuck += shopper.stuck
    if sum(received) > owed_msat or (sum(received) != owed_msat and not shopper.stuck):
        wrong.append(f"paid {paid_msat}, charged {charged_msat}, came back {received} msat")
    if len(received) > 1:
        wrong.append(f"{len(received)} destinations were paid")
    if shopper.seen.get("refundAmountSats", 0) * 1000 != owed_msat and not shopper.stuck:
        wrong.append(f"owed {owed_msat} msat, the job says {shopper.seen.get('refundAmountSats')} sats")
    if shopper.order.kind == "failing" and state == "complete":
        wrong.append("work that fails was called complete")
    result.differences += [f"order {shopper.order.number} ({shopper.order.kind}, {state}): {w}" for w in wrong]
