"""`bench gate`: decisions a second, the usual way beside ours beside plain inserts, on one server in one run.

Every decision is free, so that each writes its rows: reservation, transfer, three day counters, two balances.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import IPv4Interface
from typing import Any

import asyncpg

from ledger import book, free_tier, grants, sql, transfers
from ledger.database import Connection, Pool, open_pool
from ledger.free_tier import Decision, Facts, Rules, Serve, Tier, Used
from ledger.grants import Ask
from ledger.groups import Groups

_q = sql.load("gateway.bench", "gate.sql")

RULES = Rules((Tier("all", 0, 0, 1_000_000_000, Decimal(1)),), pool_cap_sats=10**9, address_cap_sats=10**9)
IDENTITIES = 200
ADDRESSES = [IPv4Interface(f"10.1.0.{n}/32") for n in range(1, 51)]
CONNECTIONS, CALLERS = 32, 256
POOL_SATS = 10**9
PLAIN_INSERT = "insert into bench_rows (id, body) values ($1, $2)"
"""Its table is made by the benchmark: no block of the product's SQL."""


@dataclass(frozen=True, slots=True)
class Rate:
    per_s: float
    p50_ms: float
    p99_ms: float


def ask(run: str, number: int) -> Ask:
    pubkey = f"{number % IDENTITIES + 1:064x}"
    return Ask(
        f"bench:{run}-{number}", pubkey, ADDRESSES[number % len(ADDRESSES)], number % 9 + 1, number.to_bytes(32, "big")
    )


async def measured(call: Callable[[int], Awaitable[Any]], *, callers: int, seconds: float) -> tuple[Rate, int]:
    """Callers that ask again as soon as they are answered, for so long."""
    waits: list[float] = []
    numbers = iter(range(10**9))
    start = time.perf_counter()

    async def caller() -> None:
        while time.perf_counter() - start < seconds:
            before = time.perf_counter()
            await call(next(numbers))
            waits.append(time.perf_counter() - before)

    await asyncio.gather(*(caller() for _ in range(callers)))
    took = time.perf_counter() - start
    waits.sort()
    rate = Rate(
        len(waits) / took, waits[len(waits) // 2] * 1000, waits[min(len(waits) - 1, len(waits) * 99 // 100)] * 1000
    )
    return rate, len(waits)


async def usual(pool: Pool, one: Ask) -> Decision:
    """SELECT … FOR UPDATE on identity and pool, decide, UPDATE and INSERT: one transaction a decision."""
    address, sats = str(one.address), one.estimate_sats
    async with pool.acquire() as conn, conn.transaction():
        identity = await conn.fetchrow(_q.lock_identity, one.pubkey)
        balance = await conn.fetchval(_q.lock_pool)
        await conn.execute(_q.open_days, address, one.pubkey)
        days = {row["kind"]: Used(row["absorbed_sats"], row["reserved_sats"]) for row in
                await conn.fetch(_q.read_days, address, one.pubkey)}  # fmt: skip
        blocked = bool(identity and identity["blocked"])
        caps = (RULES.address_cap_sats, RULES.pool_cap_sats)
        facts = Facts(RULES.tiers[0], blocked, days["identity"], days["address"], days["pool"], balance // 1000, *caps)
        decision = free_tier.decide(facts, sats)
        await conn.execute(_q.insert_reservation, one.reservation_id, one.pubkey, one.address, one.request_hash, sats)
        await conn.execute(_q.count_days, address, one.pubkey, sats)
        await conn.execute(_q.insert_transfer, one.reservation_id, sats * 1000)
        await conn.execute(_q.move_balance, "pool_reserved", sats * 1000)
        await conn.execute(_q.move_balance, "pool", -sats * 1000)
        return decision


async def ours(dsn: str, run: str, seconds: float) -> tuple[Rate, int]:
    async def apply(conn: Connection, asks: Sequence[Ask]) -> list[Decision]:
        return await grants.decide(conn, asks, RULES)

    async with open_pool(dsn, min_size=2, max_size=4) as pool:
        groups = Groups(pool, apply)

        async def one(number: int) -> None:
            decision = await groups.submit(ask(run, number))
            if decision.serve is not Serve.FREE:
                raise AssertionError(f"the benchmark's pool ran dry: {decision}")

        await measured(one, callers=CALLERS, seconds=0.3)
        offset = 10**7

        async def shifted(number: int) -> None:
            await one(offset + number)

        return await measured(shifted, callers=CALLERS, seconds=seconds)


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
    rates = [answers.get(timeout=seconds + 60)[0] for _ in children]
    for child in children:
        child.join()
    return Rate(sum(r.per_s for r in rates), max(r.p50_ms for r in rates), max(r.p99_ms for r in rates))


async def run_gate(dsn: str, *, seconds: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """All of it on an empty, migrated database."""
    async with open_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        await _prepare(pool)
        tell("the usual way …")

        async def one_usual(number: int) -> None:
            await usual(pool, ask("usual", number))

        usual_rate, _ = await measured(one_usual, callers=CONNECTIONS, seconds=seconds)
        tell("plain inserts …")

        async def one_insert(number: int) -> None:
            await pool.execute(PLAIN_INSERT, number, "a row")

        insert_rate, _ = await measured(one_insert, callers=CONNECTIONS, seconds=seconds)
    tell("ours, one process …")
    one_process = await asyncio.to_thread(_in_processes, dsn, 1, seconds)
    tell("ours, two processes …")
    two_processes = await asyncio.to_thread(_in_processes, dsn, 2, seconds)
    best = max(one_process.per_s, two_processes.per_s)
    named = {"usual": usual_rate, "insert": insert_rate, "ours1": one_process, "ours2": two_processes}
    return {
        "rates": {
            name: {"perS": round(r.per_s), "p50Ms": round(r.p50_ms, 1), "p99Ms": round(r.p99_ms, 1)}
            for name, r in named.items()
        },
        "ratios": {
            "ours_to_usual": round(best / usual_rate.per_s, 1),
            "ours_to_insert": round(best / insert_rate.per_s, 2),
        },
    }


async def _prepare(pool: Pool) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("create table bench_rows (id bigint primary key, body text)")
        await conn.executemany(
            "insert into identities (pubkey) values ($1)", [(f"{n + 1:064x}",) for n in range(IDENTITIES)]
        )
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
            await admin.execute(f"drop database {name} with (force)")
    finally:
        await admin.close()
