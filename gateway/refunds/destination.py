"""May this BOLT11 invoice be paid? Decoded by LND, checked by a pure function, each refusal with its own code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway import problems
from gateway.problems import Problem
from gateway.refunds.lnurl import ask_invoice, pay_url, refuse_other_invoice
from ledger.money import sats_to_msat, whole_sats
from lightning.bolt11 import network_of
from lightning.node import Node
from lightning.types import BadPaymentRequest, NodeInfo, NodeUnavailable, NotFound, PaymentRequest, Unknown

MIN_TIME_LEFT = timedelta(seconds=30)
MAX_TIME_LEFT = timedelta(days=31)
"""An attempt whose sends nobody took up can be given up only when its invoice has expired."""
ROUTE_CLTV = 144
"""Blocks left to the route when the final hop has had its own."""


@dataclass(frozen=True, slots=True)
class DestinationRules:
    """What a stranger's invoice may ask of the node: at most `cltv_limit` blocks of locked money in all."""

    cltv_limit: int
    allow_hosts: tuple[str, ...] = ()
    """Whose Lightning Addresses and LNURLs may lie anywhere, over plain http too (regtest)."""

    @property
    def max_final_cltv(self) -> int:
        return self.cltv_limit - ROUTE_CLTV


@dataclass(frozen=True, slots=True)
class Owed:
    """The refunds of a job that wait for a destination."""

    refund_ids: frozenset[str] = frozenset()
    sats: int = 0


NOTHING_OWED = Owed()


@dataclass(frozen=True, slots=True)
class Destination:
    """A checked invoice; its amount is still to be compared with what is owed."""

    text: str
    request: PaymentRequest
    refund_ids: frozenset[str] | None = None
    """What an address was asked for: what came to be owed since is not claimed with it. None: all that is owed."""


async def resolve_destination(
    node: Node, text: str, owed: Owed, now: datetime, rules: DestinationRules
) -> Destination | None:
    """An invoice, or the invoice that an address gives for what is owed. None: an address, and nothing is owed yet.

    May take seconds: never inside a transaction. Raises Problem, NodeUnavailable.
    """
    url = pay_url(text, rules.allow_hosts)
    if url is None:
        return await read_destination(node, text, now, rules)
    if not owed.sats:
        return None
    amount_msat = sats_to_msat(owed.sats)
    offer, invoice = await ask_invoice(url, amount_msat, rules.allow_hosts)
    found = await read_destination(node, invoice, now, rules)
    refuse_other_invoice(offer, found.request, amount_msat)
    return Destination(text, found.request, owed.refund_ids)


async def read_destination(node: Node, text: str, now: datetime, rules: DestinationRules) -> Destination:
    """Decode and check all that does not depend on the sum. Raises Problem, NodeUnavailable."""
    invoice = re.sub("^lightning:", "", text.strip(), flags=re.IGNORECASE)
    if not invoice.lower().startswith("ln"):
        raise Problem(
            problems.DESTINATION_INVALID, "Give a BOLT11 invoice of your wallet; it begins with lnbc (or lntb, lnbcrt)."
        )
    own = await node.identity()
    try:
        refuse_network(network_of(invoice), own)
        request = await node.decode(invoice.lower() if invoice.isupper() else invoice)
    except BadPaymentRequest:
        raise Problem(
            problems.DESTINATION_INVALID, "This is not a BOLT11 invoice that the node can read. Copy it again, whole."
        ) from None
    refuse_unpayable(request, own, now, rules)
    return Destination(text, request)


def refuse_network(network: str, own: NodeInfo) -> None:
    """Before the node decodes it: LND reads invoices of its own network only. Pure. Raises Problem."""
    if network != own.network:
        detail = f"The invoice is for {network}, this gateway is on {own.network}."
        raise Problem(problems.DESTINATION_WRONG_NETWORK, detail)


def refuse_unpayable(request: PaymentRequest, own: NodeInfo, now: datetime, rules: DestinationRules) -> None:
    """Pure. Raises Problem."""
    if request.destination == own.pubkey:
        raise Problem(problems.DESTINATION_OWN_NODE, "Give an invoice of your own wallet.")
    if request.expires_at - MIN_TIME_LEFT <= now:
        raise Problem(problems.DESTINATION_EXPIRED, "Make a new invoice and give that. Your refund waits.")
    if request.expires_at - MAX_TIME_LEFT > now:
        detail = f"It is valid for too long; make one that expires within {MAX_TIME_LEFT.days} days."
        raise Problem(problems.DESTINATION_INVALID, detail)
    if not request.is_plain:
        detail = "This kind of invoice (AMP, or without a payment address) can not be paid; make an ordinary one."
        raise Problem(problems.DESTINATION_INVALID, detail)
    if request.min_final_cltv > rules.max_final_cltv:
        raise Problem(
            problems.DESTINATION_TIMELOCK,
            f"Its final time lock is {request.min_final_cltv} blocks, at most {rules.max_final_cltv} are accepted.",
        )
    if request.amount_msat % 1000:
        raise Problem(problems.DESTINATION_WRONG_AMOUNT, "Refunds are whole sats; make the invoice without an amount.")


def refuse_amount(request: PaymentRequest, owed_sats: int) -> None:
    """Exactly what is owed, or amountless. Pure. Raises Problem naming the right amount."""
    if request.amount_msat and request.amount_msat != owed_sats * 1000:
        raise Problem(
            problems.DESTINATION_WRONG_AMOUNT,
            f"The invoice asks for {whole_sats(request.amount_msat)} sats, owed are {owed_sats} sats. "
            f"Make an invoice over {owed_sats} sats, or one without an amount.",
            {"refundAmountSats": owed_sats},
        )


async def refuse_used(node: Node, request: PaymentRequest) -> None:
    """A hash that the node has a payment for already is not used again. Raises Problem, NodeUnavailable."""
    outcome = await node.track_payment(request.payment_hash, deadline_s=5)
    if isinstance(outcome, NotFound):
        return
    if isinstance(outcome, Unknown):
        raise NodeUnavailable(outcome.why)
    raise Problem(problems.DESTINATION_USED, "Make a new invoice and give that. Your refund waits.")
