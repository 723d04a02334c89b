"""The gate on the ledger: lock, decide by the pure policy, apply. Every call runs in the caller's transaction.

Lock order: the owner (job) by the caller, then identities, days (address, identity, pool), accounts, the pool last.
Reserve, record, release: a reservation is made once and ends exactly once, its money moves with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface
from typing import Any, NamedTuple, TypeAlias

from ledger import book, free_tier, sql, transfers
from ledger.columns import bytes_column, column, numbers
from ledger.database import Connection
from ledger.free_tier import Decision, Facts, Rules, Serve, Tier, Used
from ledger.money import sats_to_msat, whole_sats
from ledger.transfers import POOL

_q = sql.load("ledger", "grants.sql")

Address: TypeAlias = IPv4Interface | IPv6Interface | IPv4Address | IPv6Address
DayKey: TypeAlias = tuple[str, str]
POOL_DAY: DayKey = ("pool", "pool")


@lru_cache(maxsize=4096)
def address_subject(address: Address) -> str:
    """One spelling, with its prefix length, however the database's driver hands the address out."""
    return str(ip_interface(str(address)))


@lru_cache(maxsize=4096)
def day_keys(address: Address, pubkey: str) -> tuple[DayKey, DayKey, DayKey]:
    """The three rows that a reservation counts on, in the order in which they are locked."""
    return (("address", address_subject(address)), ("identity", pubkey), POOL_DAY)


class ReservationEnded(Exception):
    """A reservation can not be ended a second time, or never was: a fault of the caller."""


@dataclass(slots=True)
class Ask:
    """One request to the gate. `reservation_id` names its owner (`job:<id>`), so a repeated ask is the same one.

    Never changed once it is made; not frozen, because freezing one costs as much as deciding it.
    """

    reservation_id: str
    pubkey: str
    address: Address
    estimate_sats: int
    request_hash: bytes
    fee_of_cap_sats: int | None = None
    """Set for the fee of an evaluation, which `estimate_sats` is then: the catalogue's cap on the work."""
    day_keys: tuple[DayKey, DayKey, DayKey] = field(init=False, repr=False, compare=False)
    """Made with the ask, so that nothing is spelled out while a group holds its locks."""

    def __post_init__(self) -> None:
        self.day_keys = day_keys(self.address, self.pubkey)


Rank: TypeAlias = tuple[Tier | None, bool]
"""`(tier, blocked)`"""


@dataclass(slots=True)
class World:
    """What the policy sees, read once for a group and kept up to date in memory while the group is decided. Pure."""

    rules: Rules
    today: date
    ranks: dict[str, Rank]
    days: dict[DayKey, Used]
    pool_balance_sats: int
    standing_sats: dict[str, int] = field(default_factory=dict)
    """Reservations of these asks that stand already, by id."""

    def facts(self, ask: Ask) -> Facts:
        days, rules = self.days, self.rules
        address, identity, pool = ask.day_keys
        tier, blocked = self.ranks[ask.pubkey]
        return Facts(
            tier,
            blocked,
            days[identity],
            days[address],
            days[pool],
            self.pool_balance_sats,
            rules.address_cap_sats,
            rules.pool_cap_sats,
        )

    def answer(self, ask: Ask) -> Decision:
        """The policy's answer; nothing is taken."""
        if ask.fee_of_cap_sats is None:
            return free_tier.decide(self.facts(ask), ask.estimate_sats)
        return free_tier.decide_fee(self.facts(ask), ask.estimate_sats, ask.fee_of_cap_sats)

    def take(self, ask: Ask, sats: int) -> None:
        days = self.days
        for key in ask.day_keys:
            absorbed_sats, reserved_sats = days[key]
            days[key] = Used(absorbed_sats, reserved_sats + sats)
        self.pool_balance_sats -= sats

    def decide(self, ask: Ask) -> Decision:
        """The policy's answer; what is free is taken at once, so that the next ask of the group sees it."""
        decision = self.answer(ask)
        if decision.serve is Serve.FREE:
            self.take(ask, decision.absorb_sats)
        return decision


def rank_of(known: Any | None, rules: Rules) -> Rank:
    """Of an identity's row; one that was never seen (None) stands where a new one does. Pure."""
    if known is None:
        return free_tier.tier_of(rules.tiers, paid_sats=0, days_known=0, operator_tier=None), False
    tier = free_tier.tier_of(
        rules.tiers,
        paid_sats=known["paid_sats"],
        days_known=known["days_known"],
        operator_tier=known["operator_tier"],
    )
    return tier, known["blocked"]


async def decide(conn: Connection, asks: Sequence[Ask], rules: Rules) -> list[Decision]:
    """Answers in the order of the asks; `free` debits the pool there and then, `partial` is advisory.

    An ask whose reservation stands already is answered as before: nothing is debited twice.
    """
    if not asks:
        return []
    rows = Rows.of(asks)
    world = await _lock_world(conn, asks, rows, rules)
    before = world.standing_sats
    decisions, taken_sats = [], []
    for ask in asks:
        if before and ask.reservation_id in before:
            decisions.append(Decision(Serve.FREE, before[ask.reservation_id], 0, "pool_pays_all"))
            taken_sats.append(0)
            continue
        decision = world.decide(ask)
        decisions.append(decision)
        taken_sats.append(decision.absorb_sats if decision.serve is Serve.FREE else 0)
    await _reserve(conn, rows, taken_sats, world.today)
    return decisions


async def decide_dry_run(conn: Connection, ask: Ask, rules: Rules) -> Decision:
    """What `decide` would answer now: no lock kept, no row written, no daily budget used."""
    today = await conn.fetchval(_q.today)
    ranks = {ask.pubkey: rank_of(await identity(conn, ask.pubkey), rules)}
    days = _days(ask.day_keys, await conn.fetch(_q.read_days, *_columns(ask.day_keys), today))
    kept = await book.kept_balances(conn, (POOL,))
    world = World(rules, today, ranks, days, whole_sats(kept[POOL]))
    return world.answer(ask)


async def reserve_partial_grant(conn: Connection, ask: Ask, absorb_sats: int, rules: Rules) -> bool:
    """At payment: exactly the advised absorb is reserved, or nothing (False: drained, or over a limit by now)."""
    rows = Rows.of([ask])
    world = await _lock_world(conn, [ask], rows, rules)
    if not free_tier.may_reserve(world.facts(ask), ask.estimate_sats, absorb_sats):
        return False
    await _reserve(conn, rows, [absorb_sats], world.today)
    return True


async def reserve_up_to(conn: Connection, ask: Ask, most_sats: int, rules: Rules) -> int:
    """After a session's request: whatever can be had, 0 … `most_sats`; the caller records it next."""
    rows = Rows.of([ask])
    world = await _lock_world(conn, [ask], rows, rules)
    sats = free_tier.reservable(world.facts(ask), ask.estimate_sats, most_sats)
    await _reserve(conn, rows, [sats], world.today)
    return sats


async def release_reservation(conn: Connection, reservation_id: str) -> None:
    """The work failed or never ran: the whole reservation goes back to the pool."""
    row = await _lock_reservation(conn, reservation_id)
    await _end(conn, row, "released", None)
    await book.post(conn, transfers.grant(reservation_id, 0, sats_to_msat(row["reserved_sats"])))


async def record_grant(
    conn: Connection,
    pubkey: str,
    request_hash: bytes,
    actual_absorbed_sats: int,
    reserved_absorbed_sats: int,
    reservation_id: str,
) -> None:
    """The work succeeded: what it really absorbed is paid, over-reservation returns, the audit row says both."""
    row = await _lock_reservation(conn, reservation_id)
    if (row["pubkey"], bytes(row["request_hash"]), row["reserved_sats"]) != (
        pubkey,
        request_hash,
        reserved_absorbed_sats,
    ):
        raise ReservationEnded(f"{reservation_id} was made for another request")
    await _end(conn, row, "recorded", actual_absorbed_sats)
    await conn.execute(
        _q.insert_grant, reservation_id, pubkey, request_hash, row["day"], reserved_absorbed_sats, actual_absorbed_sats
    )
    over_sats = reserved_absorbed_sats - actual_absorbed_sats
    await book.post(conn, transfers.grant(reservation_id, sats_to_msat(actual_absorbed_sats), sats_to_msat(over_sats)))


async def lock_before_end(conn: Connection, pubkey: str, reservation_id: str) -> None:
    """For a transaction that ends one reservation and asks anew: identity and day first, as everybody locks."""
    await conn.fetch(_q.lock_identities, column([pubkey]))
    row = await _lock_reservation(conn, reservation_id)
    await _lock_days(conn, row)


async def recognise_charge(conn: Connection, pubkey: str, charge_sats: int) -> None:
    """Sats that a user was really charged raise their tier. Locks the identity: call it before days and accounts."""
    await conn.execute(_q.recognise_charge, pubkey, charge_sats)


async def know(conn: Connection, pubkey: str) -> None:
    """Whoever opens a session is known from then on."""
    await conn.execute(_q.know_identities, [pubkey])


async def identity(conn: Connection, pubkey: str) -> Any | None:
    """For views: the row of a known identity."""
    return await conn.fetchrow(_q.read_identities, [pubkey])


async def used_today(conn: Connection, key: DayKey) -> Used:
    """For views: what was absorbed and is reserved today."""
    today = await conn.fetchval(_q.today)
    return _days([key], await conn.fetch(_q.read_days, *_columns([key]), today))[key]


async def _lock_world(conn: Connection, asks: Sequence[Ask], rows: Rows, rules: Rules) -> World:
    keys = {key for ask in asks for key in ask.day_keys}
    pubkeys = sorted({ask.pubkey for ask in asks})
    addresses = sorted({ask.day_keys[0][1] for ask in asks})
    columns = column(pubkeys), column(addresses)
    ((today, known, opened),) = await conn.fetch(_q.look_round, *columns)
    if known < len(pubkeys):
        await conn.execute(_q.know_identities, pubkeys)
    locked = await conn.fetch(_q.lock_identities, columns[0])
    if opened < len(keys):  # a row that is made is locked: after the identities, as everywhere
        await conn.execute(_q.open_days, *_columns(sorted(keys)), today)
    ranks = {row["pubkey"]: rank_of(row, rules) for row in locked}
    world = World(rules, today, ranks, {}, 0)
    seen = await conn.fetch(_q.lock_world, *columns, today, rows.ids)
    for kind, subject, absorbed_sats, reserved_sats, balance_msat in seen:
        if kind == "balance":
            world.pool_balance_sats = whole_sats(balance_msat)
        elif kind == "reservation":
            world.standing_sats[subject] = reserved_sats
        else:
            world.days[kind, subject] = Used(absorbed_sats, reserved_sats)
    return world


class Rows(NamedTuple):
    """The columns of the reservations that may be made, but for their sats: ready before anything is locked."""

    ids: str
    pubkeys: str
    addresses: str
    request_hashes: str

    @classmethod
    def of(cls, asks: Sequence[Ask]) -> Rows:
        return cls(
            column([ask.reservation_id for ask in asks]),
            column([ask.pubkey for ask in asks]),
            column([ask.day_keys[0][1] for ask in asks]),
            bytes_column([ask.request_hash for ask in asks]),
        )


async def _reserve(conn: Connection, rows: Rows, taken_sats: Sequence[int], today: date) -> None:
    """Write set-wise what was taken in memory; an ask that took 0 sats leaves no row."""
    if any(taken_sats):
        sats = numbers(taken_sats)
        await conn.execute(_q.reserve, *rows, sats, today)
        await book.post_reserves(conn, rows.ids, sats)


async def _lock_reservation(conn: Connection, reservation_id: str) -> Any:
    row = await conn.fetchrow(_q.lock_reservation, reservation_id)
    if row is None or row["state"] != "reserved":
        raise ReservationEnded(reservation_id)
    return row


async def _lock_days(conn: Connection, row: Any) -> tuple[DayKey, ...]:
    """The days on which a reservation counts."""
    keys = day_keys(row["client_address"], row["pubkey"])
    columns = _columns(sorted(keys))
    await conn.execute(_q.open_days, *columns, row["day"])
    await conn.fetch(_q.lock_days, *columns, row["day"])
    return keys


async def _end(conn: Connection, row: Any, state: str, absorbed_sats: int | None) -> None:
    """The guarded end, and the days on which the reservation counts."""
    if await conn.fetchval(_q.end_reservation, row["id"], state, absorbed_sats) is None:
        raise ReservationEnded(row["id"])
    keys = await _lock_days(conn, row)
    moved_absorbed, moved_reserved = [absorbed_sats or 0] * 3, [-row["reserved_sats"]] * 3
    await conn.execute(_q.move_days, *_columns(keys), moved_absorbed, moved_reserved, row["day"])


def _columns(keys: Iterable[DayKey]) -> tuple[list[str], list[str]]:
    pairs = list(keys)
    return [kind for kind, _ in pairs], [subject for _, subject in pairs]


def _days(keys: Iterable[DayKey], rows: Iterable[Any]) -> dict[DayKey, Used]:
    """What was read; a day that was never opened is unused."""
    days = dict.fromkeys(keys, Used())
    for kind, subject, absorbed_sats, reserved_sats in rows:
        days[kind, subject] = Used(absorbed_sats, reserved_sats)
    return days
