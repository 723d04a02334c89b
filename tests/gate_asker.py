"""A process of its own that asks the gate, many at once, and prints each answer that it got. See test_gate_parallel."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from decimal import Decimal
from ipaddress import IPv4Interface

from ledger import grants
from ledger.database import Connection, open_pool
from ledger.free_tier import Decision, Rules, Tier
from ledger.grants import Ask
from ledger.groups import Groups

DAILY_LIMIT_SATS = 300
RULES = Rules((Tier("all", 0, 0, DAILY_LIMIT_SATS, Decimal(1)),), pool_cap_sats=900, address_cap_sats=450)


def ask(process: str, number: int) -> Ask:
    pubkey, address = f"{number % 5 + 1:064x}", IPv4Interface(f"10.0.0.{number % 3 + 1}/32")
    return Ask(f"test:{process}-{number}", pubkey, address, number % 7 + 1, number.to_bytes(32, "big"))


async def main(dsn: str, process: str, count: int) -> None:
    async def apply(conn: Connection, asks: Sequence[Ask]) -> list[Decision]:
        return await grants.decide(conn, asks, RULES)

    async with open_pool(dsn, min_size=1, max_size=4) as pool:
        groups = Groups(pool, apply)

        async def one(number: int) -> None:
            made = ask(process, number)
            decision = await groups.submit(made)
            print(made.reservation_id, decision.serve, decision.absorb_sats, flush=True)  # noqa: T201

        callers = asyncio.Semaphore(64)

        async def bounded(number: int) -> None:
            async with callers:
                await one(number)

        await asyncio.gather(*(bounded(number) for number in range(count)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
