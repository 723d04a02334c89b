"""The operator's word on an identity: its tier, and whether it is let in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gateway import problems
from gateway.operator.log import Actor, Logged, acting
from gateway.problems import Problem
from ledger import sql
from ledger.database import Pool
from ledger.free_tier import Rules

_q = sql.load("gateway.operator")

PUBKEY = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Change:
    """What is not given stays. A tier of None: back to what was earned."""

    tier: str | None = None
    tier_given: bool = False
    blocked: bool | None = None
    blocked_given: bool = False

    def words(self) -> str:
        tier = f"tier: {self.tier or 'what it earned'}" if self.tier_given else ""
        block = ("blocked" if self.blocked else "let in") if self.blocked_given else ""
        return ", ".join(part for part in (tier, block) if part) or "made known"


def check(rules: Rules, pubkey: str, change: Change) -> None:
    """Pure. Raises Problem (400, 422)."""
    if not PUBKEY.fullmatch(pubkey):
        raise Problem(problems.INVALID_REQUEST, "A public key is 64 small hexadecimal digits.")
    names = [tier.name for tier in rules.tiers]
    if change.tier is not None and change.tier not in names:
        raise Problem(problems.INVALID_BODY, f"/tier: there is no such tier; there are {', '.join(names) or 'none'}.")


async def set_identity(pool: Pool, rules: Rules, actor: Actor, pubkey: str, change: Change) -> tuple[Any, Logged]:
    """The identity's row, made when it is new, and its line in the log. Raises Problem (400, 422)."""
    check(rules, pubkey, change)
    async with acting(pool, actor, "identity", pubkey, change.words()) as act:
        row = await act.conn.fetchrow(
            _q.set_identity, pubkey, change.tier, change.tier_given, change.blocked, change.blocked_given
        )
    if row is None:
        raise RuntimeError("an upsert answers its row")
    return row, act.logged
