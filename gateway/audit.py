"""All invariants of the books: the ledger's own, and those over jobs, invoices and refunds."""

from __future__ import annotations

from ledger.audit import Invariant, load_invariants


def all_invariants() -> tuple[Invariant, ...]:
    return load_invariants("ledger") + load_invariants("gateway")
