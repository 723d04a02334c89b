"""What the gate would answer now, for estimates and pages: a dry run writes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.context import Gateway
from gateway.jobs.create import ClientAddress
from gateway.jobs.price import Priced
from ledger import grants
from ledger.free_tier import Decision, Used, decide_without_identity
from ledger.grants import Ask

_NOTHING = bytes(32)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an identity stands today."""

    pubkey: str
    tier: str | None
    daily_limit_sats: int
    used: Used

    @property
    def left_sats(self) -> int:
        return max(0, self.daily_limit_sats - self.used.total_sats)


async def dry_run(gateway: Gateway, pubkey: str | None, address: ClientAddress, priced: Priced) -> Decision:
    if pubkey is None:
        return decide_without_identity(priced.estimate_sats)
    ask = Ask("dry run", pubkey, address, priced.estimate_sats, _NOTHING)
    async with gateway.pool.acquire() as conn:
        return await grants.decide_dry_run(conn, ask, gateway.rules)


async def standing(gateway: Gateway, pubkey: str) -> Standing:
    """Tier and what is left today; a key that was never seen stands where a new one does."""
    async with gateway.pool.acquire() as conn:
        known = await grants.identity(conn, pubkey)
        used = await grants.used_today(conn, ("identity", pubkey))
    tier, blocked = grants.rank_of(known, gateway.rules)
    limit_sats = 0 if tier is None or blocked else tier.daily_limit_sats
    return Standing(pubkey, "blocked" if blocked else tier.name if tier else None, limit_sats, used)
