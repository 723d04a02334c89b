"""Macaroons by `pymacaroons`: the only file that knows it. Version 2, binary, base64; pure.

A text from outside is anything at all: what can not be read, or was not signed with its root key, is None.
"""

from __future__ import annotations

import re
from base64 import standard_b64encode, urlsafe_b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pymacaroons import MACAROON_V2, Macaroon, Verifier
from pymacaroons.serializers import BinarySerializer

LOCATION = "boltworks"
MAX_LENGTH = 4096
"""Characters of a token that is looked at."""

_BASE64 = re.compile("[A-Za-z0-9+/_-]+={0,2}")


@dataclass(frozen=True, slots=True)
class Genuine:
    """A macaroon of ours. Its holder may have added caveats: they, too, are signed."""

    identifier: bytes
    caveats: tuple[str, ...]


def mint(root_key: bytes, identifier: bytes, caveats: Sequence[str]) -> str:
    """Base64, as it stands in a challenge."""
    macaroon = Macaroon(location=LOCATION, identifier=identifier, key=root_key, version=MACAROON_V2)
    for caveat in caveats:
        macaroon.add_first_party_caveat(caveat)
    return standard_b64encode(BinarySerializer().serialize_raw(macaroon)).decode()


def read(text: str, root_key_of: Callable[[bytes], bytes]) -> Genuine | None:
    """Either alphabet of base64, padded or not. The signature is compared in constant time; no caveat is judged."""
    if len(text) > MAX_LENGTH:
        return None
    try:
        macaroon = BinarySerializer().deserialize_raw(_bytes(text))
        if macaroon.version != MACAROON_V2 or macaroon.third_party_caveats():
            return None
        verifier = Verifier()
        verifier.satisfy_general(lambda _: True)
        verifier.verify(macaroon, root_key_of(macaroon.identifier_bytes))
        caveats = tuple(caveat.caveat_id_bytes.decode() for caveat in macaroon.caveats)
    except Exception:  # noqa: BLE001 - on bytes that are no macaroon the library raises all kinds, also the plainest
        return None
    return Genuine(macaroon.identifier_bytes, caveats)


def _bytes(text: str) -> bytes:
    """ValueError: not base64. (Python's own decoder leaves out what does not belong there.)"""
    if _BASE64.fullmatch(text) is None:
        raise ValueError("not base64")
    urlsafe = text.rstrip("=").replace("+", "-").replace("/", "_")
    return urlsafe_b64decode(urlsafe + "=" * (-len(urlsafe) % 4))
