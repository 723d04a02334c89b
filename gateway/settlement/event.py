"""The event `invoice.settled` and its Standard Webhooks signature."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from standardwebhooks import Webhook, WebhookVerificationError

from lightning.types import Invoice

TYPE = "invoice.settled"


@dataclass(frozen=True, slots=True)
class SettledEvent:
    """What is delivered. The id stays the same over all attempts; timestamp and signature are made for each."""

    webhook_id: str
    body: str

    def signed_headers(self, secret: str, now: datetime) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "webhook-id": self.webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign(self.webhook_id, now, self.body),
        }


def settled_event(invoice: Invoice) -> SettledEvent:
    settled_at = (invoice.settled_at or datetime.now(UTC)).astimezone(UTC).isoformat().replace("+00:00", "Z")
    payment_hash = invoice.payment_hash.hex()
    data = {
        "paymentHash": payment_hash,
        "amountPaidMsat": invoice.amount_paid_msat,
        "settleIndex": invoice.settle_index,
        "settledAt": settled_at,
    }
    body = json.dumps({"type": TYPE, "timestamp": settled_at, "data": data}, separators=(",", ":"))
    return SettledEvent(f"settled-{payment_hash}", body)


def is_signed(secret: str, raw: bytes, headers: Mapping[str, str]) -> bool:
    """Signature and age (five minutes either way), compared in constant time."""
    try:
        Webhook(secret).verify(raw, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError):
        return False
    return True
