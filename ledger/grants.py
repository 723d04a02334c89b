"""The gate on the ledger: lock, decide by the pure policy, apply. Every call runs in the caller's transaction.

Lock order: the owner (job) by the caller, then identities, days (address, identity, pool), accounts, the pool last.
Reserve, record, release: a reservation is made once and ends exactly once, its money moves with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface
from typing import Any, TypeAlias

from ledger import book, free_tier, sql, transfers
from ledger.database import Connection
from ledger.free_tier import Decision, Facts, Rules, Serve, Tier, Used
from ledger.money import sats_to_msat, whole_sats
from ledger.transfers import POOL, POOL_RESERVED

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


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to the gate. `reservation_id` names its owner (`job:<id>`), so a repeated ask is the same one."""

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
        object.__setattr__(self, "day_keys", day_keys(self.address, self.pubkey))


@dataclass(slots=True)
class World:
    """What the policy sees, read once for a group and kept up to date in memory while the group is decided."""

    rules: Rules
    today: date
    identities: Mapping[str, Any]
    days: dict[DayKey, Used]
    pool_balance_sats: int
    taken: list[tuple[Ask, int]] = field(default_factory=list)

    def facts(self, ask: Ask) -> Facts:
        address, identity, pool = (self.days.get(key, Used()) for key in ask.day_keys)
        tier, blocked = rank_of(self.identities.get(ask.pubkey), self.rules)
        caps = (self.rules.address_cap_sats, self.rules.pool_cap_sats)
        return Facts(tier, blocked, identity, address, pool, self.pool_balance_sats, *caps)

    def decide(self, ask: Ask) -> Decision:
        if ask.fee_of_cap_sats is None:
            return free_tier.decide(self.facts(ask), ask.estimate_sats)
        return free_tier.decide_fee(self.facts(ask), ask.estimate_sats, ask.fee_of_cap_sats)

    def take(self, ask: Ask, sats: int) -> None:
        for key in ask.day_keys:
            used = self.days.get(key, Used())
            self.days[key] = Used(used.absorbed_sats, used.reserved_sats + sats)
        self.pool_balance_sats -= sats
        self.taken.append((ask, sats))


def rank_of(known: Any | None, rules: Rules) -> tuple[Tier | None, bool]:
    """`(tier, blocked)` of an identity's row; one that was never seen (None) stands where a new one does. Pure."""
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
    world = await _lock_world(conn, asks, rules)
    found = await conn.fetch(_q.find_reservations, [ask.reservation_id for ask in asks])
    before = {row["id"]: row["reserved_sats"] for row in found}
    decisions = []
    for ask in asks:
        if ask.reservation_id in before:
            decisions.append(Decision(Serve.FREE, before[ask.reservation_id], 0, "pool_pays_all"))
            continue
        decision = world.decide(ask)
        if decision.serve is Serve.FREE:
            world.take(ask, decision.absorb_sats)
        decisions.append(decision)
    await _reserve(conn, world)
    return decisions


async def decide_dry_run(conn: Connection, ask: Ask, rules: Rules) -> Decision:
    """What `decide` would answer now: no lock kept, no row written, no daily budget used."""
    today = await conn.fetchval(_q.today)
    identities = {row["pubkey"]: row for row in await conn.fetch(_q.read_identities, [ask.pubkey])}
    days = _days(await conn.fetch(_q.read_days, *_columns(ask.day_keys), today))
    kept = await book.kept_balances(conn, (POOL,))
    world = World(rules, today, identities, days, whole_sats(kept[POOL]))
    return world.decide(ask)


async def reserve_partial_grant(conn: Connection, ask: Ask, absorb_sats: int, rules: Rules) -> bool:
    """At payment: exactly the advised absorb is reserved, or nothing (False: drained, or over a limit by now)."""
    world = await _lock_world(conn, [ask], rules)
    if not free_tier.may_reserve(world.facts(ask), ask.estimate_sats, absorb_sats):
        return False
    world.take(ask, absorb_sats)
    await _reserve(conn, world)
    return True


async def reserve_up_to(conn: Connection, ask: Ask, most_sats: int, rules: Rules) -> int:
    """After a session's request: whatever can be had, 0 … `most_sats`; the caller records it next."""
    world = await _lock_world(conn, [ask], rules)
    sats = free_tier.reservable(world.facts(ask), ask.estimate_sats, most_sats)
    if sats > 0:
        world.take(ask, sats)
        await _reserve(conn, world)
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
    await conn.fetch(_q.lock_identities, [pubkey])
    row = await _lock_reservation(conn, reservation_id)
    await _lock_days(conn, day_keys(row["client_address"], row["pubkey"]), row["day"])


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
    return _days(await conn.fetch(_q.read_days, *_columns([key]), today)).get(key, Used())


async def _lock_world(conn: Connection, asks: Sequence[Ask], rules: Rules) -> World:
    pubkeys = sorted({ask.pubkey for ask in asks})
    await conn.execute(_q.know_identities, pubkeys)
    identities = {row["pubkey"]: row for row in await conn.fetch(_q.lock_identities, pubkeys)}
    today = await conn.fetchval(_q.today)
    days = await _lock_days(conn, {key for ask in asks for key in ask.day_keys}, today)
    kept = await book.lock_kept(conn, (POOL_RESERVED, POOL))
    return World(rules, today, identities, days, whole_sats(kept[POOL]))


async def _lock_days(conn: Connection, keys: Iterable[DayKey], day: date) -> dict[DayKey, Used]:
    columns = _columns(sorted(keys))
    await conn.execute(_q.open_days, *columns, day)
    return _days(await conn.fetch(_q.lock_days, *columns, day))


async def _reserve(conn: Connection, world: World) -> None:
    """Write set-wise what was taken in memory."""
    taken = world.taken
    if not taken:
        return
    asks = [ask for ask, _ in taken]
    await conn.execute(
        _q.insert_reservations,
        [ask.reservation_id for ask in asks],
        [ask.pubkey for ask in asks],
        [address_subject(ask.address) for ask in asks],
        [ask.request_hash for ask in asks],
        [sats for _, sats in taken],
        world.today,
    )
    moved: defaultdict[DayKey, int] = defaultdict(int)
    for ask, sats in taken:
        for key in ask.day_keys:
            moved[key] += sats
    await conn.execute(_q.move_days, *_columns(list(moved)), [0] * len(moved), list(moved.values()), world.today)
    await book.post(conn, [transfers.reserve(ask.reservation_id, sats_to_msat(sats)) for ask, sats in taken])


async def _lock_reservation(conn: Connection, reservation_id: str) -> Any:
    row = await conn.fetchrow(_q.lock_reservation, reservation_id)
    if row is None or row["state"] != "reserved":
        raise ReservationEnded(reservation_id)
    return row


async def _end(conn: Connection, row: Any, state: str, absorbed_sats: int | None) -> None:
    """The guarded end, and the days on which the reservation counts."""
    if await conn.fetchval(_q.end_reservation, row["id"], state, absorbed_sats) is None:
        raise ReservationEnded(row["id"])
    keys = day_keys(row["client_address"], row["pubkey"])
    await _lock_days(conn, keys, row["day"])
    moved_absorbed, moved_reserved = [absorbed_sats or 0] * 3, [-row["reserved_sats"]] * 3
    await conn.execute(_q.move_days, *_columns(keys), moved_absorbed, moved_reserved, row["day"])


def _columns(keys: Iterable[DayKey]) -> tuple[list[str], list[str]]:
    pairs = list(keys)
    return [kind for kind, _ in pairs], [subject for _, subject in pairs]


def _days(rows: Iterable[Any]) -> dict[DayKey, Used]:
    return {(row["kind"], row["subject"]): Used(row["absorbed_sats"], row["reserved_sats"]) for row in rows}
