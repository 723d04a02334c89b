"""The only writer of accounts, balances and transfers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ledger import sql
from ledger.database import Connection
from ledger.money import Msat
from ledger.transfers import POOL, POOL_RESERVED, UNLIMITED, Transfer, columns

_q = sql.load("ledger", "book.sql")


class CauseConflict(Exception):
    """A cause was posted before with other accounts or another amount: a fault, never to be repaired by posting."""


class AccountMissing(Exception):
    """A transfer names a limited account that is not there: a fault. Nothing was posted."""


async def post(conn: Connection, transfers: Sequence[Transfer], opening: Collection[str] = ()) -> list[Transfer]:
    """Post inside the caller's transaction, in one statement; answers those that were new.

    A cause that stands in the book already is left out when it says the same, and raises CauseConflict
    when it does not. Limited accounts are locked in one fixed order (by code, the pool last) and moved
    under their CHECK: asyncpg.CheckViolationError means an account would have gone below zero. Raises AccountMissing.

    `opening`: holdings that are made if they are not there, and that these transfers only credit. Whoever moves what
    a holding has took its owner's lock in an earlier statement.
    """
    if not transfers:
        return []
    if len({transfer.cause for transfer in transfers}) != len(transfers):
        raise CauseConflict("one posting names a cause twice")
    touched = {t.debit for t in transfers} | {t.credit for t in transfers}
    rows = await conn.fetch(
        _q.post,
        *columns(transfers),
        sorted(touched - UNLIMITED - set(opening), key=_lock_order),
        sorted(set(opening)),
    )
    new = {(row["cause_kind"], row["cause_id"]) for row in rows}
    await _refuse_contradictions(conn, [t for t in transfers if t.cause not in new])
    return [transfer for transfer in transfers if transfer.cause in new]


async def post_reserves(conn: Connection, reservation_ids: str, sats: str) -> None:
    """Pool money is set aside: a transfer for each reservation of more than 0 sats; both are columns (ledger.columns).

    The caller holds the locks of both accounts and found under them that none of these stands: one that does is a
    UniqueViolationError. A pool that would go below zero is a CheckViolationError.
    """
    await conn.execute(_q.post_reserves, reservation_ids, sats)


async def kept_balances(conn: Connection, codes: Sequence[str]) -> dict[str, Msat]:
    """Balances of limited accounts as they are kept in their rows: no summing."""
    rows = await conn.fetch(_q.kept_balances, list(codes))
    return {row["code"]: Msat(row["balance_msat"]) for row in rows}


async def moves(conn: Connection, code: str, limit: int) -> list[Any]:
    """`cause_kind, into_it, amount_msat, created_at` of the newest transfers of one account."""
    return list(await conn.fetch(_q.moves, code, limit))


async def balances(conn: Connection) -> dict[str, Msat]:
    """Balance of every account that does not belong to one job, on its normal side, summed from transfers."""
    return {row["code"]: Msat(int(row["balance_msat"])) for row in await conn.fetch(_q.balances)}


def _lock_order(code: str) -> tuple[int, str]:
    return ({POOL_RESERVED: 1, POOL: 2}.get(code, 0), code)


async def _refuse_contradictions(conn: Connection, known: Sequence[Transfer]) -> None:
    if not known:
        return
    rows = await conn.fetch(_q.find_causes, [t.cause_kind for t in known], [t.cause_id for t in known])
    found = {(row["cause_kind"], row["cause_id"]): (row["debit"], row["credit"], row["amount_msat"]) for row in rows}
    for transfer in known:
        if transfer.cause not in found:
            raise AccountMissing(f"{transfer.debit} or {transfer.credit}")
        if found.get(transfer.cause) != (transfer.debit, transfer.credit, transfer.amount_msat):
            raise CauseConflict(f"{transfer.cause_kind}:{transfer.cause_id} was posted before, otherwise")
