"""The pure rules of L402: what a token is, what its caveats allow, and that nothing else is one."""

from __future__ import annotations

import hashlib
from base64 import b64decode, standard_b64encode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pymacaroons import Macaroon
from pymacaroons.serializers import BinarySerializer

from gateway.l402 import macaroons
from gateway.l402.credential import Allowed, Credential, Refused, Terms, allows, challenge, is_l402, mint, read
from tests.l402_client import parse

SECRET = "a token secret of tests"
PREIMAGE = b"p" * 32
HOLDER = b"h" * 32
TERMS = Terms(hashlib.sha256(PREIMAGE).digest(), amount_sats=100, valid_until=2_000_000_000)
TOKEN = mint(SECRET, TERMS, HOLDER)
NOW = datetime(2026, 11, 27, tzinfo=UTC)
CHAT = "/v1/chat/completions"


def shown(token: str = TOKEN, preimage: str = PREIMAGE.hex(), scheme: str = "L402") -> str:
    return f"{scheme} {token}:{preimage}"


def narrowed(*caveats: str) -> str:
    """By its holder, who has no key."""
    macaroon = BinarySerializer().deserialize_raw(b64decode(TOKEN))
    for caveat in caveats:
        macaroon.add_first_party_caveat(caveat)
    return standard_b64encode(BinarySerializer().serialize_raw(macaroon)).decode()


def test_a_token_is_the_specifications() -> None:
    macaroon: Any = BinarySerializer().deserialize_raw(b64decode(TOKEN))
    identifier = macaroon.identifier_bytes
    assert identifier == b"\0\0" + TERMS.payment_hash + HOLDER
    said = [caveat.caveat_id_bytes.decode() for caveat in macaroon.caveats]
    assert said == ["route=/v1/chat/completions,/v1/models", "valid_until=2000000000", "amount_sats=100"]
    assert mint(SECRET, TERMS, b"i" * 32) != TOKEN


def test_the_whole_credential_is_read() -> None:
    found = read(SECRET, shown())
    assert found == Credential(TERMS.payment_hash, HOLDER, PREIMAGE, TERMS.caveats())
    assert found.is_whole
    assert read(SECRET, shown(scheme="LSAT")) == found
    assert read(SECRET, shown(preimage=PREIMAGE.hex().upper())) == found


@pytest.mark.parametrize("spelled", [urlsafe_b64encode(b64decode(TOKEN)).decode(), TOKEN.rstrip("=")])
def test_either_alphabet_padded_or_not(spelled: str) -> None:
    assert read(SECRET, shown(spelled)) is not None


@pytest.mark.parametrize(
    "header",
    [
        shown(preimage=""),
        shown(preimage=b"q".hex() * 32),
        shown(preimage=TERMS.payment_hash.hex()),
        shown(preimage=PREIMAGE.hex()[:-2]),
        shown(preimage=PREIMAGE.hex() + "00"),
        shown(preimage=" " + PREIMAGE.hex()),
        f"L402 {TOKEN}",
        f"L402 :{PREIMAGE.hex()}",
        "L402",
        "L402 ",
        shown(mint("another secret", TERMS, HOLDER)),
        shown(TOKEN[:-8] + "AAAAAAA="),
        shown("A" * 5000),
        shown(f"{TOKEN},{TOKEN}"),
    ],
)
def test_anything_else_is_no_credential(header: str) -> None:
    assert read(SECRET, header) is None


def test_a_caveat_can_not_be_taken_off_or_changed() -> None:
    macaroon: Any = BinarySerializer().deserialize_raw(b64decode(TOKEN))
    macaroon.caveats.pop()
    assert read(SECRET, shown(standard_b64encode(BinarySerializer().serialize_raw(macaroon)).decode())) is None
    raised = b64decode(TOKEN).replace(b"amount_sats=100", b"amount_sats=999")
    assert read(SECRET, shown(standard_b64encode(raised).decode())) is None


def test_what_was_handed_on_is_not_whole() -> None:
    found = read(SECRET, shown(narrowed("amount_sats=10")))
    assert found is not None
    assert not found.is_whole


def test_a_third_partys_caveat_and_version_1_are_refused() -> None:
    other: Any = Macaroon(location="x", identifier="id", key="key")
    assert macaroons.read(other.serialize(), lambda _: b"key") is None
    macaroon: Any = BinarySerializer().deserialize_raw(b64decode(TOKEN))
    macaroon.add_third_party_caveat("https://elsewhere.example", "key", "id")
    assert read(SECRET, shown(standard_b64encode(BinarySerializer().serialize_raw(macaroon)).decode())) is None


@pytest.mark.parametrize(
    ("caveats", "route", "wanted"),
    [
        (TERMS.caveats(), CHAT, Allowed(100)),
        (TERMS.caveats(), "/v1/models", Allowed(100)),
        ((), CHAT, Allowed(None)),
        (("amount_sats=7", "amount_sats = 5", "amount_sats=6"), CHAT, Allowed(5)),
        (("valid_until=1795737600",), CHAT, Allowed(None)),
        (("valid_until=1",), CHAT, Refused("This token's time is over.", over=True)),
        (("valid_until=2000000000", "valid_until=1"), CHAT, Refused("This token's time is over.", over=True)),
        (("route=/v1/models",), CHAT, Refused(f"This token is not for {CHAT}.")),
        ((f"route={CHAT}", "route=/v1/models"), CHAT, Refused(f"This token is not for {CHAT}.")),
        (("route=",), CHAT, Refused(f"This token is not for {CHAT}.")),
        (TERMS.caveats(), "/api/sessions/current", Refused("This token is not for /api/sessions/current.")),
        (("ip=127.0.0.1",), CHAT, Refused("This token has a caveat that is not known here.")),
        (("amount_sats=-1",), CHAT, Refused("This token has a caveat that is not known here.")),
        (("amount_sats=1e9",), CHAT, Refused("This token has a caveat that is not known here.")),
        (("valid_until=tomorrow",), CHAT, Refused("This token has a caveat that is not known here.")),
        (("",), CHAT, Refused("This token has a caveat that is not known here.")),
    ],
)
def test_what_caveats_allow(caveats: tuple[str, ...], route: str, wanted: Allowed | Refused) -> None:
    assert allows(caveats, route, NOW) == wanted


@pytest.mark.parametrize(
    ("header", "wanted"),
    [("L402 x", True), ("l402 x", True), ("LSAT x", True), ("Bearer x", False), ("", False), ("L402x", False)],
)
def test_both_names_of_the_scheme(header: str, wanted: bool) -> None:
    assert is_l402(header) is wanted


def test_a_challenge_is_what_a_client_reads() -> None:
    read_back = parse(challenge(TOKEN, "lnbcrt1invoice"))
    assert (read_back.token, read_back.invoice) == (TOKEN, "lnbcrt1invoice")


@given(st.binary(max_size=300))
@example(b"\x01")
@example(b"\x0a\x00")
@example(b"\x02")
def test_no_bytes_at_all_are_a_fault(raw: bytes) -> None:
    """Nor those that begin as a macaroon of version 2 does."""
    for text in (raw, b"\x02" + raw):
        assert read(SECRET, shown(standard_b64encode(text).decode())) is None


@given(st.text(max_size=200), st.text(max_size=80))
def test_no_text_at_all_is_a_fault(token: str, preimage: str) -> None:
    assert read(SECRET, f"L402 {token}:{preimage}") is None


@given(st.integers(0, len(b64decode(TOKEN)) - 1), st.integers(1, 255))
def test_a_changed_byte_is_no_token(position: int, by: int) -> None:
    raw = bytearray(b64decode(TOKEN))
    raw[position] ^= by
    found = macaroons.read(standard_b64encode(bytes(raw)).decode(), lambda _: b"k")
    assert found is None
    seen = read(SECRET, shown(standard_b64encode(bytes(raw)).decode()))
    assert seen is None or seen.caveats == TERMS.caveats()  # the location is not signed, and decides nothing
