"""A refund attempt as its executor has it: a leased row, and the facts that decide its next step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.refunds.decisions import Facts
from gateway.refunds.fees import FeeBound
from ledger.money import sats_to_msat

MAX_LOOK_AGAIN_S = 15.0


@dataclass(slots=True)
class Attempt:
    """A leased row of refund_attempts."""

    row: Any

    @property
    def id(self) -> str:
        return str(self.row["id"])

    @property
    def payment_hash(self) -> bytes:
        return bytes(self.row["payment_hash"])

    @property
    def log(self) -> dict[str, str]:
        return {"job_id": self.row["job_id"], "payment_hash": self.payment_hash.hex(), "refund_attempt": self.id}

    @property
    def look_again_s(self) -> float:
        """The older an attempt, the rarer the looks: a stranger's held payment costs little."""
        age_s = (self.row["now"] - self.row["created_at"]).total_seconds()
        return float(min(max(1.0, age_s / 8), MAX_LOOK_AGAIN_S))

    def facts(self, history_intact: bool) -> Facts:
        row = self.row
        return Facts(
            amount_msat=sats_to_msat(row["amount_sats"]),
            expires_at=row["expires_at"],
            sends=row["sends"],
            failed_sends=row["failed_sends"],
            last_failed_index=row["last_failed_index"],
            update_seen=row["update_seen"],
            history_intact=history_intact,
            fee_bound=None if row["fee_bound"] is None else FeeBound(row["fee_bound"]),
        )
