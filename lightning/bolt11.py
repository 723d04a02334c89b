"""What a BOLT11 string says by itself: pure, no signature check. LND's `DecodePayReq` stays the authority.

Used where asking LND would cost a call per invoice (the expiry of one just made), and to know the payment
hash of what is about to be paid. Rules: BOLT 11, and BIP 173 for the checksum.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ledger.money import Msat
from lightning.types import BadPaymentRequest

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
NETWORKS = {"bcrt": "regtest", "tbs": "signet", "bc": "mainnet", "tb": "testnet"}
DEFAULT_EXPIRY_S = 3600
DEFAULT_MIN_FINAL_CLTV = 18
SIGNATURE_WORDS = 104
TIMESTAMP_WORDS = 7
HASH_WORDS = 52
MAX_LENGTH = 7089
"""What fits into a QR code, and LND's own limit."""

_HRP = re.compile(r"ln(bcrt|tbs|bc|tb)(?:([1-9][0-9]{0,18})([munp])?)?")
_MSAT_PER_BTC = 100_000_000_000
_UNITS = {None: 1, "m": 1_000, "u": 1_000_000, "n": 1_000_000_000, "p": 1_000_000_000_000}
_NO_WORD = 0xFF
_WORDS = bytes(CHARSET.index(chr(letter)) if chr(letter) in CHARSET else _NO_WORD for letter in range(256))


@dataclass(frozen=True, slots=True)
class Bolt11:
    """The fields of a payment request, unsigned for all we know."""

    network: str
    amount_msat: Msat
    """0: the payer chooses."""
    created_at: datetime
    payment_hash: bytes
    description: str
    min_final_cltv: int
    expires_at: datetime
    description_hash: bytes = b""
    """32 bytes, or none."""


def read(payment_request: str) -> Bolt11:
    """Raises BadPaymentRequest: not bech32, a broken checksum, an unknown network, or no payment hash."""
    hrp, words = _bech32(payment_request)
    network, amount_msat = _read_hrp(hrp)
    if len(words) < TIMESTAMP_WORDS + SIGNATURE_WORDS:
        raise BadPaymentRequest("the invoice is cut short")
    tags = _read_tags(words[TIMESTAMP_WORDS:-SIGNATURE_WORDS])
    if "p" not in tags:
        raise BadPaymentRequest("the invoice carries no payment hash")
    created_at = datetime.fromtimestamp(number_of(words[:TIMESTAMP_WORDS]), UTC)
    return Bolt11(
        network=network,
        amount_msat=amount_msat,
        created_at=created_at,
        payment_hash=bytes_of(tags["p"]),
        description=bytes_of(tags.get("d", ())).decode(errors="replace"),
        min_final_cltv=number_of(tags["c"]) if "c" in tags else DEFAULT_MIN_FINAL_CLTV,
        expires_at=expiry_of(created_at, number_of(tags["x"]) if "x" in tags else DEFAULT_EXPIRY_S),
        description_hash=bytes_of(tags.get("h", ())),
    )


def network_of(payment_request: str) -> str:
    """`mainnet`, `testnet`, `signet` or `regtest`, by the prefix alone. Raises BadPaymentRequest."""
    hrp, separator, _ = payment_request.lower().rpartition("1")
    if not separator:
        raise BadPaymentRequest("not a BOLT11 invoice")
    return _read_hrp(hrp)[0]


def created_at_of(payment_request: str) -> datetime:
    """Of an invoice that the node itself just made: nothing else of it is looked at. Raises BadPaymentRequest."""
    _, separator, data = payment_request.rpartition("1")
    words = data[:TIMESTAMP_WORDS].encode("ascii", errors="replace").translate(_WORDS)
    if not separator or len(words) < TIMESTAMP_WORDS or _NO_WORD in words:
        raise BadPaymentRequest("not a BOLT11 invoice")
    return datetime.fromtimestamp(number_of(words), UTC)


def expiry_of(created_at: datetime, expiry_s: int) -> datetime:
    """Raises BadPaymentRequest for an expiry that no calendar holds: a stranger writes it."""
    try:
        return created_at + timedelta(seconds=expiry_s)
    except OverflowError:
        raise BadPaymentRequest("the invoice's expiry is absurd") from None


def checksum(hrp: str, words: Sequence[int]) -> list[int]:
    """The six words that end a bech32 string."""
    polymod = _polymod([*_expand(hrp), *words, 0, 0, 0, 0, 0, 0]) ^ 1
    return [(polymod >> 5 * (5 - i)) & 31 for i in range(6)]


def number_of(words: Iterable[int]) -> int:
    value = 0
    for word in words:
        value = value << 5 | word
    return value


def bytes_of(words: Sequence[int]) -> bytes:
    """Whole bytes only: the padding bits at the end are dropped."""
    size = len(words) * 5 // 8
    return (number_of(words) >> (len(words) * 5 - size * 8)).to_bytes(size, "big")


def _read_hrp(hrp: str) -> tuple[str, Msat]:
    match = _HRP.fullmatch(hrp)
    if match is None:
        raise BadPaymentRequest("not a BOLT11 invoice")
    prefix, digits, unit = match.groups()
    if digits is None:
        return NETWORKS[prefix], Msat(0)
    amount_msat, rest = divmod(int(digits) * _MSAT_PER_BTC, _UNITS[unit])
    if rest:
        raise BadPaymentRequest("the invoice asks for less than a millisatoshi")
    return NETWORKS[prefix], Msat(amount_msat)


def _read_tags(words: Sequence[int]) -> dict[str, Sequence[int]]:
    """The first field of each type; later ones, and a hash of any but 52 words, are skipped as LND does."""
    tags: dict[str, Sequence[int]] = {}
    at = 0
    while at < len(words):
        size = number_of(words[at + 1 : at + 3])
        field = words[at + 3 : at + 3 + size]
        if at + 3 > len(words) or len(field) != size:
            raise BadPaymentRequest("a field of the invoice is cut short")
        if CHARSET[words[at]] not in "ph" or size == HASH_WORDS:
            tags.setdefault(CHARSET[words[at]], field)
        at += 3 + size
    return tags


def _bech32(text: str) -> tuple[str, bytes]:
    if len(text) > MAX_LENGTH:
        raise BadPaymentRequest("the invoice is too long")
    lowered = text.lower()
    if text not in (lowered, text.upper()):
        raise BadPaymentRequest("the invoice mixes upper and lower case")
    hrp, _, data = lowered.rpartition("1")
    words = data.encode("ascii", errors="replace").translate(_WORDS)
    if _NO_WORD in words:
        raise BadPaymentRequest("not a BOLT11 invoice")
    if not hrp.isascii() or _polymod([*_expand(hrp), *words]) != 1:
        raise BadPaymentRequest("the invoice's checksum is wrong")
    return hrp, words[:-6]


def _expand(hrp: str) -> list[int]:
    return [*(ord(c) >> 5 for c in hrp), 0, *(ord(c) & 31 for c in hrp)]


def _polymod(words: Iterable[int]) -> int:
    check = 1
    for word in words:
        check = (check & 0x1FFFFFF) << 5 ^ word ^ _FOLDED[check >> 25]
    return check


def _folded(top: int) -> int:
    """What the five generators come to for the bits that are shifted out."""
    folded = 0
    for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
        if top >> bit & 1:
            folded ^= generator
    return folded


_FOLDED = tuple(_folded(top) for top in range(32))
