"""Random ids, and the bearer tokens that follow from them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64encode, urlsafe_b64encode


def new_id() -> str:
    """128 random bits, 22 characters that are safe in a URL."""
    return secrets.token_urlsafe(16)


def bearer_token(token_secret: str, kind: str, resource_id: str) -> str:
    """The token of a resource: HMAC of the secret over kind and id, so that a repeated answer holds the same one."""
    mac = hmac.new(token_secret.encode(), f"{kind}:{resource_id}".encode(), hashlib.sha256).digest()
    return f"bw_{kind}_{urlsafe_b64encode(mac).decode().rstrip('=')}"


def webhook_secret(token_secret: str, endpoint_id: str) -> str:
    """`whsec_…` of an endpoint that is told of events. It is kept nowhere."""
    mac = hmac.new(token_secret.encode(), f"webhook:{endpoint_id}".encode(), hashlib.sha256).digest()
    return f"whsec_{b64encode(mac).decode()}"


def token_hash(token: str) -> bytes:
    """What is stored of a token, and what decides. A header may carry any bytes; they are no token of ours then."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
