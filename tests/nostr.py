"""A Nostr signer for tests, as a wallet or a browser extension is one."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import Any

from coincurve import PrivateKey

from gateway.identity.event import event_id

Tags = list[list[str]]


@dataclass
class Signer:
    """One key; `Signer(7)` is the same key in every test."""

    number: int = 3
    key: PrivateKey = field(init=False)

    def __post_init__(self) -> None:
        self.key = PrivateKey.from_int(self.number)

    @property
    def pubkey(self) -> str:
        return self.key.public_key_xonly.format().hex()

    def event(self, kind: int, tags: Tags, *, content: str = "", created_at: int | None = None) -> dict[str, Any]:
        moment = int(time.time()) if created_at is None else created_at
        made = event_id(self.pubkey, moment, kind, tags, content)
        signature = self.key.sign_schnorr(bytes.fromhex(made), bytes(32)).hex()
        return {
            "id": made,
            "pubkey": self.pubkey,
            "created_at": moment,
            "kind": kind,
            "tags": tags,
            "content": content,
            "sig": signature,
        }

    def login(self, challenge: str, relay: str, **more: Any) -> dict[str, Any]:
        return self.event(22242, [["relay", relay], ["challenge", challenge]], **more)

    def call(self, method: str, url: str, body: bytes = b"", **more: Any) -> dict[str, Any]:
        tags = [["u", url], ["method", method]]
        if body:
            tags.append(["payload", hashlib.sha256(body).hexdigest()])
        return self.event(27235, tags, **more)


def header(event: Any) -> dict[str, str]:
    """`Authorization` of NIP-98."""
    return {"Authorization": f"Nostr {base64.b64encode(json.dumps(event).encode()).decode()}"}
