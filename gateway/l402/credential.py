"""What an L402 token says and allows. Pure. Truth tables: tests/unit/test_l402.py.

The macaroon's identifier is the specification's version 0 (2 bytes), the payment hash, and 32 random bytes that name
its holder; its root key is an HMAC of `TOKEN_SECRET` over that, so that none is kept. Who asks from one address may be
shown one invoice, but never one token: the first that comes with the preimage has the session, and no other ever does.
A caveat is `key=value`. One that is not known here is refused, where the specification would skip it: whoever added it
meant to hand on less than he had.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from gateway.l402 import macaroons

SCHEMES = ("l402", "lsat")
"""The older name is accepted."""
VERSION = (0).to_bytes(2, "big")
MINTED = 3
"""Caveats of a token that nobody has narrowed."""
ROUTES = ("/v1/chat/completions", "/v1/models")
_WHOLE = re.compile("[0-9]{1,16}")


@dataclass(frozen=True, slots=True)
class Terms:
    """What is known of a token when it is minted. `valid_until`: seconds since 1970."""

    payment_hash: bytes
    amount_sats: int
    valid_until: int

    def caveats(self) -> tuple[str, ...]:
        return (f"route={','.join(ROUTES)}", f"valid_until={self.valid_until}", f"amount_sats={self.amount_sats}")


@dataclass(frozen=True, slots=True)
class Credential:
    """A genuine token with the preimage of its own payment hash."""

    payment_hash: bytes
    holder: bytes
    preimage: bytes
    caveats: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """As it was minted, whose caveats stand first: who was handed less of it can not claim what is left."""
        return len(self.caveats) == MINTED


@dataclass(frozen=True, slots=True)
class Allowed:
    """`spend_sats`: the most that the token may have been charged in all; None: what was paid."""

    spend_sats: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """`over`: it was good once, and a new one can be bought."""

    why: str
    over: bool = False


def mint(token_secret: str, terms: Terms, holder: bytes) -> str:
    """`holder`: 32 random bytes."""
    identifier = VERSION + terms.payment_hash + holder
    return macaroons.mint(_root_key(token_secret, identifier), identifier, terms.caveats())


def read(token_secret: str, header: str) -> Credential | None:
    """`Authorization: L402 <macaroon>:<preimage>`. None: not genuine, or not the preimage of its payment hash."""
    _, _, text = header.partition(" ")
    token, _, preimage_hex = text.strip().rpartition(":")
    genuine = macaroons.read(token, lambda identifier: _root_key(token_secret, identifier))
    if genuine is None or len(genuine.identifier) != 66 or not genuine.identifier.startswith(VERSION):
        return None
    if re.fullmatch("[0-9a-fA-F]{64}", preimage_hex) is None:
        return None
    payment_hash, preimage = genuine.identifier[2:34], bytes.fromhex(preimage_hex)
    if not hmac.compare_digest(hashlib.sha256(preimage).digest(), payment_hash):
        return None
    return Credential(payment_hash, genuine.identifier[34:], preimage, genuine.caveats)


def is_l402(header: str) -> bool:
    return header.partition(" ")[0].lower() in SCHEMES


def allows(caveats: tuple[str, ...], route: str, now: datetime) -> Allowed | Refused:
    """Every caveat must hold; of several amounts the least counts."""
    amounts: list[int] = []
    for key, value in _pairs(caveats):
        if key == "route":
            if route not in (one.strip() for one in value.split(",")):
                return Refused(f"This token is not for {route}.")
        elif key not in ("valid_until", "amount_sats") or _WHOLE.fullmatch(value) is None:
            return Refused("This token has a caveat that is not known here.")
        elif key == "amount_sats":
            amounts.append(int(value))
        elif now.timestamp() > int(value):
            return Refused("This token's time is over.", over=True)
    return Allowed(min(amounts, default=None))


def challenge(token: str, payment_request: str) -> str:
    """The value of `WWW-Authenticate`. `macaroon` is the older name of `token`; who does not know one ignores it."""
    return f'L402 version="0", token="{token}", macaroon="{token}", invoice="{payment_request}"'


def _pairs(caveats: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for caveat in caveats:
        key, _, value = caveat.partition("=")
        yield key.strip(), value.strip()


def _root_key(token_secret: str, identifier: bytes) -> bytes:
    return hmac.new(token_secret.encode(), b"l402-root:" + identifier, hashlib.sha256).digest()
