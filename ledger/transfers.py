"""Transfers as values, and the flows of money as pure functions. The book posts what they return.

Each flow says which account is debited and which is credited (ARCHITECTURE.md, "The book").
A transfer of nothing is left out: the database refuses amounts below one msat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ledger.money import Msat, Rest, sats_to_msat

NODE = "node"
ROUTING_FEES = "routing_fees"
OVERRUNS = "overruns"
REFUNDS_PAYABLE = "refunds_payable"
SUB_SAT = "sub_sat"
REVENUE = "revenue"
CAPITAL = "capital"
POOL = "pool"
POOL_RESERVED = "pool_reserved"
UNLIMITED = frozenset({NODE, ROUTING_FEES, OVERRUNS, REFUNDS_PAYABLE, SUB_SAT, REVENUE, CAPITAL})
"""Accounts that keep no balance of their own: summed when asked, so that no row of theirs is ever hot."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """`amount_msat` from `debit` to `credit`, because of `cause_kind`:`cause_id` and never a second time."""

    cause_kind: str
    cause_id: str
    debit: str
    credit: str
    amount_msat: Msat

    @property
    def cause(self) -> tuple[str, str]:
        return (self.cause_kind, self.cause_id)


def columns(some: Sequence[Transfer]) -> tuple[list[Any], ...]:
    """`cause_kind, cause_id, debit, credit, amount_msat` of each, as statements take them. Pure."""
    return (
        [transfer.cause_kind for transfer in some],
        [transfer.cause_id for transfer in some],
        [transfer.debit for transfer in some],
        [transfer.credit for transfer in some],
        [transfer.amount_msat for transfer in some],
    )


def holding(owner_id: str) -> str:
    """The account that holds what was paid for one job, until the work is done or given up."""
    return f"holding:{owner_id}"


def available(session_id: str) -> str:
    """What a session can still spend."""
    return f"available:{session_id}"


def held(session_id: str) -> str:
    """What is set aside for a session's requests that run now."""
    return f"held:{session_id}"


def _some(*transfers: Transfer) -> tuple[Transfer, ...]:
    return tuple(transfer for transfer in transfers if transfer.amount_msat > 0)


def settlement(payment_hash: str, account: str, paid_msat: int) -> tuple[Transfer, ...]:
    """An invoice settled: what LND says was paid is held for the job, can be spent in the session, or is the pool's."""
    return _some(Transfer("settlement", payment_hash, NODE, account, Msat(paid_msat)))


def owed_back(refund_cause: str, account: str, rest: Rest) -> tuple[Transfer, ...]:
    """A debt to the payer, out of what `account` has: whole sats; what is below a sat stays on its own account."""
    return _some(
        Transfer("refund_owed", refund_cause, account, REFUNDS_PAYABLE, sats_to_msat(rest.refund_sats)),
        Transfer("sub_sat", refund_cause, account, SUB_SAT, rest.sub_sat_msat),
    )


def hold(request_id: str, session_id: str, held_msat: int) -> tuple[Transfer, ...]:
    """A request begins: its full estimate is set aside from the balance."""
    return _some(Transfer("hold", request_id, available(session_id), held(session_id), Msat(held_msat)))


def session_charge(
    request_id: str, session_id: str, held_msat: int, charge_msat: int, pool_share_msat: int
) -> tuple[Transfer, ...]:
    """A request ended: the charge becomes revenue (the pool gets its share of it), the rest can be spent again."""
    rest_msat = held_msat - charge_msat
    return _some(
        Transfer("charge", request_id, held(session_id), REVENUE, Msat(charge_msat)),
        Transfer("unhold", request_id, held(session_id), available(session_id), Msat(rest_msat)),
        Transfer("pool_share", request_id, REVENUE, POOL, Msat(pool_share_msat)),
    )


def charge(job_id: str, charge_msat: int, pool_share_msat: int) -> tuple[Transfer, ...]:
    """What the user is charged becomes revenue; the pool gets its configured share of that."""
    return _some(
        Transfer("charge", job_id, holding(job_id), REVENUE, Msat(charge_msat)),
        Transfer("pool_share", job_id, REVENUE, POOL, Msat(pool_share_msat)),
    )


def evaluation_fee(job_id: str, fee_msat: int, pool_share_msat: int) -> tuple[Transfer, ...]:
    """The evaluator answered: what the user paid for that becomes revenue; the pool gets its share of it."""
    return _some(
        Transfer("evaluation_fee", job_id, holding(job_id), REVENUE, Msat(fee_msat)),
        Transfer("pool_share", f"eval:{job_id}", REVENUE, POOL, Msat(pool_share_msat)),
    )


def overrun(job_id: str, overrun_msat: int) -> tuple[Transfer, ...]:
    """Work beyond its cap: the operator's loss, charged to nobody, never shared with the pool."""
    return _some(Transfer("overrun", job_id, OVERRUNS, REVENUE, Msat(overrun_msat)))


def refund_paid(attempt_id: str, refund_msat: int, fee_msat: int) -> tuple[Transfer, ...]:
    """A refund arrived; the routing fee is the gateway's expense."""
    return _some(
        Transfer("refund_paid", attempt_id, REFUNDS_PAYABLE, NODE, Msat(refund_msat)),
        Transfer("routing_fee", attempt_id, ROUTING_FEES, NODE, Msat(fee_msat)),
    )


def refund_donated(refund_id: str, amount_msat: int) -> Transfer:
    """What was owed to a payer is the pool's, by its owner's word."""
    return Transfer("refund_donated", refund_id, REFUNDS_PAYABLE, POOL, Msat(amount_msat))


def topup(topup_id: str, amount_msat: int) -> Transfer:
    """The operator gives the pool money: a book transfer, capital may go negative."""
    return Transfer("topup", topup_id, CAPITAL, POOL, Msat(amount_msat))


def grant(reservation_id: str, absorbed_msat: int, over_msat: int) -> tuple[Transfer, ...]:
    """A reservation ends: what was absorbed is revenue, the rest is the pool's again."""
    return _some(
        Transfer("grant", reservation_id, POOL_RESERVED, REVENUE, Msat(absorbed_msat)),
        Transfer("release", reservation_id, POOL_RESERVED, POOL, Msat(over_msat)),
    )
