"""`bench gate`: decisions a second, the usual way beside ours beside plain inserts, on one server in one run.

Every decision is free, so that each writes its rows: reservation, transfer, three day counters, two balances.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import IPv4Interface
from typing import Any

import asyncpg

from ledger import book, free_tier, grants, sql, transfers
from ledger.database import Connection, Pool, open_pool
from ledger.free_tier import Decision, Facts, Rules, Serve, Tier, Used
from ledger.grants import Ask, address_subject
from ledger.groups import Groups

_q = sql.load("gateway.bench", "gate.sql")

RULES = Rules((Tier("all", 0, 0, 1_000_000_000, Decimal(1)),), pool_cap_sats=10**9, address_cap_sats=10**9)
IDENTITIES = 200
ADDRESSES = [IPv4Interface(f"10.1.0.{n}/32") for n in range(1, 51)]
CONNECTIONS, CALLERS = 32, 256
POOL_SATS = 10**9
WARM_S = 0.3
"""Every side runs so long before it is measured: connections are open then, and statements prepared."""
PUBKEYS = [f"{n:064x}" for n in range(1, IDENTITIES + 1)]
PLAIN_INSERT = "insert into bench_rows (id, body) values ($1, $2)"
"""Its table is made by the benchmark: no block of the product's SQL."""


@dataclass(frozen=True, slots=True)
class Rate:
    per_s: float
    p50_ms: float
    p99_ms: float


def ask(run: str, number: int) -> Ask:
    pubkey, address = PUBKEYS[number % IDENTITIES], ADDRESSES[number % len(ADDRESSES)]
    return Ask(f"bench:{run}-{number}", pubkey, address, number % 9 + 1, number.to_bytes(32, "big"))


async def measured(call: Callable[[int], Awaitable[Any]], *, callers: int, seconds: float) -> Rate:
    """Callers that ask again as soon as they are answered, for so long."""
    numbers = itertools.count()
    await _called(call, numbers, callers, WARM_S)
    start = time.perf_counter()
    waits = await _called(call, numbers, callers, seconds)
    took = time.perf_counter() - start
    waits.sort()
    return Rate(len(waits) / took, waits[len(waits) // 2] * 1000, waits[(len(waits) - 1) * 99 // 100] * 1000)


async def _called(
    call: Callable[[int], Awaitable[Any]], numbers: Iterator[int], callers: int, seconds: float
) -> list[float]:
    """How long each call took, in seconds."""
    waits: list[float] = []
    clock = time.perf_counter
    end = clock() + seconds

    async def caller() -> None:
        asked = clock()
        while asked < end:
            await call(next(numbers))
            answered = clock()
            waits.append(answered - asked)
            asked = answered

    await asyncio.gather(*(caller() for _ in range(callers)))
    return waits


async def usual(pool: Pool, one: Ask) -> Decision:
    """SELECT … FOR UPDATE on identity and pool, decide, UPDATE and INSERT: one transaction a decision."""
    address, sats = address_subject(one.address), one.estimate_sats
    async with pool.acquire() as conn, conn.transaction():
        identity = await conn.fetchrow(_q.lock_identity, one.pubkey)
        balance = await conn.fetchval(_q.lock_pool)
        days = await _read_days(conn, address, one.pubkey)
        tier, blocked = grants.rank_of(identity, RULES)
        caps = (RULES.address_cap_sats, RULES.pool_cap_sats)
        facts = Facts(tier, blocked, days["identity"], days["address"], days["pool"], balance // 1000, *caps)
        decision = free_tier.decide(facts, sats)
        await conn.execute(_q.insert_reservation, one.reservation_id, one.pubkey, one.address, one.request_hash, sats)
        await conn.execute(_q.count_days, address, one.pubkey, sats)
        await conn.execute(_q.insert_transfer, one.reservation_id, sats * 1000)
        await conn.execute(_q.move_balances, sats * 1000)
        return decision


async def _read_days(conn: Connection, address: str, pubkey: str) -> dict[str, Used]:
    """Opened only when they are not there yet, as ours are."""
    rows = await conn.fetch(_q.read_days, address, pubkey)
    if len(rows) < 3:
        await conn.execute(_q.open_days, address, pubkey)
        rows = await conn.fetch(_q.read_days, address, pubkey)
    return {row["kind"]: Used(row["absorbed_sats"], row["reserved_sats"]) for row in rows}


async def ours(dsn: str, run: str, seconds: float) -> Rate:
    async def apply(conn: Connection, asks: Sequence[Ask]) -> list[Decision]:
        return await grants.decide(conn, asks, RULES)

    async with open_pool(dsn, min_size=2, max_size=4) as pool:
        groups = Groups(pool, apply)

        async def one(number: int) -> None:
            decision = await groups.submit(ask(run, number))
            if decision.serve is not Serve.FREE:
                raise AssertionError(f"the benchmark's pool ran dry: {decision}")

        return await measured(one, callers=CALLERS, seconds=seconds)


async def plain_inserts(pool: Pool, connections: int, seconds: float) -> Rate:
    """Rows of two columns, one commit each; one connection waits for the disk each time, more share its flushes."""

    async def one(_: int) -> None:
        await pool.execute(PLAIN_INSERT, next(_rows), "a row")

    return await measured(one, callers=connections, seconds=seconds)


_rows = itertools.count()


def _child(dsn: str, run: str, seconds: float, answers: Any) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answers.put(runner.run(ours(dsn, run, seconds)))


def _in_processes(dsn: str, count: int, seconds: float) -> Rate:
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    children = [context.Process(target=_child, args=(dsn, f"p{count}{n}", seconds, answers)) for n in range(count)]
    for child in children:
        child.start()
    rates = [answers.get(timeout=seconds + 60) for _ in children]
    for child in children:
        child.join()
    return Rate(sum(r.per_s for r in rates), max(r.p50_ms for r in rates), max(r.p99_ms for r in rates))


async def run_gate(dsn: str, *, seconds: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """All of it on an empty, migrated database."""
    async with open_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        await prepare(pool)
        tell("the usual way …")

        async def one_usual(number: int) -> None:
            await usual(pool, ask("usual", number))

        usual_rate = await measured(one_usual, callers=CONNECTIONS, seconds=seconds)
        tell("plain inserts, one connection …")
        insert_rate = await plain_inserts(pool, 1, seconds)
        tell(f"plain inserts, {CONNECTIONS} connections …")
        inserts_rate = await plain_inserts(pool, CONNECTIONS, seconds)
    tell("ours, one process …")
    one_process = await asyncio.to_thread(_in_processes, dsn, 1, seconds)
    tell("ours, two processes …")
    two_processes = await asyncio.to_thread(_in_processes, dsn, 2, seconds)
    best = max(one_process.per_s, two_processes.per_s)
    named = {
        "usual": usual_rate,
        "insert1": insert_rate,
        "insert32": inserts_rate,
        "ours1": one_process,
        "ours2": two_processes,
    }
    return {
        "rates": {
            name: {"perS": round(r.per_s), "p50Ms": round(r.p50_ms, 1), "p99Ms": round(r.p99_ms, 1)}
            for name, r in named.items()
        },
        "ratios": {
            "ours_to_usual": round(best / usual_rate.per_s, 1),
            "ours_to_insert": round(best / insert_rate.per_s, 2),
            "ours_to_insert_32_connections": round(best / inserts_rate.per_s, 2),
        },
    }


async def prepare(pool: Pool) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("create table bench_rows (id bigint primary key, body text)")
        await conn.executemany("insert into identities (pubkey) values ($1)", [(pubkey,) for pubkey in PUBKEYS])
        await book.post(conn, [transfers.topup("bench", POOL_SATS * 1000)])


async def with_database(server_dsn: str, work: Callable[[str], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """In a database of its own on that server, dropped afterwards."""
    from urllib.parse import urlsplit, urlunsplit

    from gateway.database import migrate_database

    name = f"boltworks_bench_{time.time_ns()}"
    admin = await asyncpg.connect(server_dsn)
    try:
        await admin.execute(f"create database {name}")
        parts = urlsplit(server_dsn)
        dsn = urlunsplit((parts.scheme, parts.netloc, f"/{name}", parts.query, ""))
        try:
            await migrate_database(dsn)
            return await work(dsn)
        finally:
            await admin.execute(f"drop database {name}")  # by force it would need a right over autovacuum's workers
    finally:
        await admin.close()
