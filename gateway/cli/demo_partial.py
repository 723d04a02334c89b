"""What the second half of `demo` needs: a signed call, a tier whose price the pool shares, and the pool in words."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from typing import Any

import click
from coincurve import PrivateKey

from gateway.identity.event import event_id

TOPUP_SATS = 100


def signed_call(key: PrivateKey, method: str, url: str, body: bytes) -> str:
    """`Authorization` of NIP-98: the call, signed."""
    pubkey = key.public_key_xonly.format().hex()
    now_s = int(time.time())
    tags = [["u", url], ["method", method], ["payload", hashlib.sha256(body).hexdigest()]]
    content = secrets.token_hex(8)
    made = event_id(pubkey, now_s, 27235, tags, content)
    event = {
        "id": made,
        "pubkey": pubkey,
        "created_at": now_s,
        "kind": 27235,
        "tags": tags,
        "content": content,
        "sig": key.sign_schnorr(bytes.fromhex(made)).hex(),
    }
    return f"Nostr {base64.b64encode(json.dumps(event).encode()).decode()}"


def shared_tier(tiers: Any) -> Any | None:
    """The first tier for which the pool pays a part, and not all."""
    return next((tier for tier in tiers if 0 < tier.pool_share < 1 and tier.daily_limit_sats > 0), None)


def tell_pool(words: str, pool: dict[str, Any]) -> None:
    click.echo(f"{words}: the pool can give {pool['balanceSats']:,} sats, {pool['absorbedTodaySats']:,} given today.")
