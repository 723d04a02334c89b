"""What a run will do, from its seed alone: the faults with their times, and each buyer's order. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

TARGETS = ("server", "worker", "watcher", "lnd", "postgres")
WEIGHTS = (24, 34, 14, 10, 18)
MEAN_GAP_S = 3.0
MAX_DOWN_S = 3.0
MAX_FROZEN_S = 9.0
"""Longer than a lease: what wakes up then must find that it lost it."""
MAX_HELD_S = 6.0
ESTIMATE_SATS = 100
ABSORBED_SATS = ESTIMATE_SATS // 2
"""What the pool pays of a partial job's estimate."""

Kind = Literal["whole", "partial", "free", "failing", "overpaid", "late", "cancelled"]
Claim = Literal["exact", "amountless", "held_taken", "held_refused", "on_file"]
KINDS: tuple[Kind, ...] = ("whole", "partial", "free", "failing", "overpaid", "late", "cancelled")
KIND_WEIGHTS = (28, 22, 8, 14, 12, 8, 8)
CLAIMS: tuple[Claim, ...] = ("exact", "amountless", "held_taken", "held_refused", "on_file")
CLAIM_WEIGHTS = (28, 14, 22, 20, 16)


@dataclass(frozen=True, slots=True)
class Fault:
    at_s: float
    target: str
    does: Literal["kill", "freeze"]
    for_s: float
    """How long it lies dead before it is started again, or stands still."""


@dataclass(frozen=True, slots=True)
class Order:
    number: int
    kind: Kind
    claim: Claim
    cost_sats: int
    wait_s: float
    """When a late one is paid, as seen from its expiry; when a cancelled one is, as seen from its payment's begin."""
    held_s: float
    """How long the claim's payment is held."""

    @property
    def work_input(self) -> dict[str, Any]:
        return {"fail": True} if self.kind == "failing" else {"cost": self.cost_sats}

    def charge_sats(self, state: str) -> int:
        """What the buyer owes for a job that ended so: the contract's rule, said once more by itself."""
        if state != "complete":
            return 0
        absorbed = {"partial": ABSORBED_SATS, "free": ESTIMATE_SATS}.get(self.kind, 0)
        return max(0, min(self.cost_sats, ESTIMATE_SATS) - absorbed)


def faults(seed: int, seconds: float) -> list[Fault]:
    """Each target is killed once, in a drawn order, before anything may happen again."""
    rng = random.Random(f"faults {seed}")
    first = rng.sample(TARGETS, len(TARGETS))
    planned: list[Fault] = []
    at_s = 0.0
    while True:
        at_s += min(4 * MEAN_GAP_S, max(0.5, rng.expovariate(1 / MEAN_GAP_S)))
        if at_s >= seconds:
            return planned
        target = first[len(planned)] if len(planned) < len(first) else rng.choices(TARGETS, WEIGHTS)[0]
        kills = rng.random() < 0.6 or len(planned) < len(first)
        for_s = rng.uniform(0, MAX_DOWN_S) if kills else rng.uniform(0.5, MAX_FROZEN_S)
        planned.append(Fault(round(at_s, 2), target, "kill" if kills else "freeze", round(for_s, 2)))


def order(seed: int, number: int) -> Order:
    rng = random.Random(f"order {seed} {number}")
    kind = rng.choices(KINDS, KIND_WEIGHTS)[0]
    claim = rng.choices(CLAIMS, CLAIM_WEIGHTS)[0]
    wait_s = rng.uniform(-0.6, 0.4) if kind == "late" else rng.uniform(0, 0.25)
    return Order(number, kind, claim, rng.randint(1, 130), round(wait_s, 3), round(rng.uniform(0, MAX_HELD_S), 2))
