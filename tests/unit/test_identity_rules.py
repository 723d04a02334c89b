"""Truth tables of identities: what an event is, what stands for a call, what stands for a login."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from coincurve import PrivateKey

from gateway.identity.caller import decode_event
from gateway.identity.event import InvalidEvent, event_id, read_event, signed_by
from gateway.identity.rules import check_http_auth, check_login
from tests.nostr import Signer, Tags, header

NOW_S = 1_700_000_000
URL = "https://pay.example.org/api/jobs?a=1"
BODY = b'{"work": "echo"}'
HASH = hashlib.sha256(BODY).hexdigest()
ME = Signer(3)
P = "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f"
N = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
G_X = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


# --- BIP-340 -----------------------------------------------------------------------------------------------

KEYS = (1, 3, 2**64, int(N, 16) - 1)
MESSAGES = ("00" * 32, "ff" * 32, hashlib.sha256(b"boltworks").hexdigest())


def sign(number: int, message: str, aux: bytes = bytes(32)) -> tuple[str, str]:
    """`(pubkey, signature)` in hex."""
    key = PrivateKey.from_int(number)
    return key.public_key_xonly.format().hex(), key.sign_schnorr(bytes.fromhex(message), aux).hex()


@pytest.mark.parametrize("number", KEYS)
@pytest.mark.parametrize("message", MESSAGES)
def test_a_signature_is_its_keys_over_its_message(number: int, message: str) -> None:
    pubkey, signature = sign(number, message)
    assert signed_by(pubkey, message, signature)
    assert signed_by(pubkey, message, sign(number, message, b"\1" * 32)[1])
    assert not signed_by(Signer(99).pubkey, message, signature)
    assert not signed_by(pubkey, hashlib.sha256(message.encode()).hexdigest(), signature)


def test_the_key_of_three_is_the_specifications() -> None:
    assert ME.pubkey == "f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9"


PUBKEY, SIGNATURE = sign(3, MESSAGES[2])
R, S = SIGNATURE[:64], SIGNATURE[64:]

BAD_SIGNATURES = {
    "r of the field's size": (PUBKEY, P + S),
    "r is no coordinate": (PUBKEY, "ff" * 32 + S),
    "s of the order's size": (PUBKEY, R + N),
    "s negated": (PUBKEY, R + f"{int(N, 16) - int(S, 16):064x}"),
    "zeroes": (PUBKEY, "00" * 64),
    "r zero": (PUBKEY, "00" * 32 + S),
    "the generator's r": (PUBKEY, G_X + S),
    "halves exchanged": (PUBKEY, S + R),
    "key of the field's size": (P, SIGNATURE),
    "key beyond the field": ("ff" * 32, SIGNATURE),
    "key zero": ("00" * 32, SIGNATURE),
    "key not on the curve": (f"{5:064x}", SIGNATURE),
}


@pytest.mark.parametrize("name", BAD_SIGNATURES)
def test_what_is_no_signature(name: str) -> None:
    pubkey, signature = BAD_SIGNATURES[name]
    assert not signed_by(pubkey, MESSAGES[2], signature)


# --- NIP-01 ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "serialised"),
    [
        ("", '""'),
        ('a"b\\c/d', '"a\\"b\\\\c/d"'),
        ("\n\r\t\b\f", '"\\n\\r\\t\\b\\f"'),
        ("Grüße ⚡ \U0001f600 \u2028", '"Grüße ⚡ \U0001f600 \u2028"'),
    ],
)
def test_the_id_is_the_hash_of_the_canonical_form(content: str, serialised: str) -> None:
    form = f'[0,"{ME.pubkey}",{NOW_S},1,[["t",{serialised}]],{serialised}]'
    assert event_id(ME.pubkey, NOW_S, 1, [["t", content]], content) == hashlib.sha256(form.encode()).hexdigest()
    event = read_event(ME.event(1, [["t", content]], content=content, created_at=NOW_S))
    assert (event.content, event.tags, event.pubkey) == (content, (("t", content),), ME.pubkey)


def test_unknown_members_are_not_read() -> None:
    assert read_event({**ME.event(1, [], created_at=NOW_S), "ots": "x"}).kind == 1


GOOD = ME.event(1, [["a", "b"]], content="hello", created_at=NOW_S)
BAD_EVENTS: dict[str, tuple[Any, str]] = {
    "no object": ([], "JSON object"),
    "null": (None, "JSON object"),
    **{f"without {name}": ({k: v for k, v in GOOD.items() if k != name}, name) for name in GOOD},
    "id in capitals": ({**GOOD, "id": GOOD["id"].upper()}, "id must be 64 lower-case"),
    "id with a line end": ({**GOOD, "id": GOOD["id"] + "\n"}, "id must be 64"),
    "short pubkey": ({**GOOD, "pubkey": GOOD["pubkey"][2:]}, "pubkey must be 64"),
    "compressed pubkey": ({**GOOD, "pubkey": "02" + GOOD["pubkey"]}, "pubkey must be 64"),
    "long sig": ({**GOOD, "sig": GOOD["sig"] + "00"}, "sig must be 128"),
    "sig a number": ({**GOOD, "sig": 1}, "sig must be a string"),
    "created_at text": ({**GOOD, "created_at": str(NOW_S)}, "created_at must be a whole number"),
    "created_at fraction": ({**GOOD, "created_at": float(NOW_S)}, "created_at must be a whole number"),
    "created_at true": ({**GOOD, "created_at": True}, "created_at must be a whole number"),
    "created_at before 1970": ({**GOOD, "created_at": -1}, "created_at must be a whole number"),
    "kind too large": (ME.event(65_536, []), "kind must be at most"),
    "tags an object": ({**GOOD, "tags": {"a": "b"}}, "tags must be a list"),
    "tag a string": ({**GOOD, "tags": ["ab"]}, "list of strings"),
    "tag empty": ({**GOOD, "tags": [[]]}, "list of strings"),
    "tag with a number": ({**GOOD, "tags": [["a", 1]]}, "list of strings"),
    "half a surrogate in a tag": ({**GOOD, "tags": [["a", "\ud800"]]}, "not Unicode"),
    "half a surrogate in the content": ({**GOOD, "content": "\ud800"}, "not Unicode"),
    "content null": ({**GOOD, "content": None}, "content must be a string"),
    "other content": ({**GOOD, "content": "Hello"}, "id is not the SHA-256"),
    "other tags": ({**GOOD, "tags": [["a", "c"]]}, "id is not the SHA-256"),
    "other kind": ({**GOOD, "kind": 2}, "id is not the SHA-256"),
    "other time": ({**GOOD, "created_at": NOW_S + 1}, "id is not the SHA-256"),
    "other key's pubkey": ({**GOOD, "pubkey": Signer(4).pubkey}, "id is not the SHA-256"),
    "other event's signature": ({**GOOD, "sig": ME.event(2, [])["sig"]}, "signature is not"),
    "signature of zeroes": ({**GOOD, "sig": "00" * 64}, "signature is not"),
}


@pytest.mark.parametrize("name", BAD_EVENTS)
def test_what_is_no_event(name: str) -> None:
    value, words = BAD_EVENTS[name]
    with pytest.raises(InvalidEvent, match=words):
        read_event(value)


def test_a_signature_of_another_key_over_the_right_id() -> None:
    forged = {**GOOD, "sig": Signer(4).key.sign_schnorr(bytes.fromhex(GOOD["id"]), bytes(32)).hex()}
    with pytest.raises(InvalidEvent, match="signature is not"):
        read_event(forged)


def test_the_header_holds_base64_of_json() -> None:
    assert decode_event(header(GOOD)["Authorization"].removeprefix("Nostr ")).id == GOOD["id"]
    for garbage in ("", "=", "no base64!", "\udcff", "AAAA", "e30=", "W10=", "bnVsbA==", "eyJhIjoxLCJhIjoyfQ=="):
        with pytest.raises(InvalidEvent):
            decode_event(garbage)


# --- NIP-98 ------------------------------------------------------------------------------------------------

U, METHOD, PAYLOAD = ["u", URL], ["method", "POST"], ["payload", HASH]


def http_auth(tags: Tags, *, kind: int = 27_235, at_s: int = NOW_S, method: str = "POST", body: bytes = BODY) -> None:
    event = read_event(ME.event(kind, tags, created_at=at_s))
    check_http_auth(event, url=URL, method=method, body=body, now_s=NOW_S)


ACCEPTED_CALLS: dict[str, tuple[Tags, dict[str, Any]]] = {
    "with a body": ([U, METHOD, PAYLOAD], {}),
    "in another order, unknown tags beside": ([["x"], PAYLOAD, ["p", "q"], METHOD, U, ["x", "y"]], {}),
    "method in small letters": ([U, ["method", "post"], PAYLOAD], {}),
    "further parts of a tag": ([[*U, "more"], METHOD, PAYLOAD], {}),
    "no body, no payload": ([U, METHOD], {"body": b""}),
    "no body, its hash": ([U, METHOD, ["payload", hashlib.sha256(b"").hexdigest()]], {"body": b""}),
    "a minute old": ([U, METHOD, PAYLOAD], {"at_s": NOW_S - 60}),
    "a minute ahead": ([U, METHOD, PAYLOAD], {"at_s": NOW_S + 60}),
    "a read": ([U, ["method", "GET"]], {"method": "GET", "body": b""}),
}


@pytest.mark.parametrize("name", ACCEPTED_CALLS)
def test_an_event_that_stands_for_the_call(name: str) -> None:
    tags, more = ACCEPTED_CALLS[name]
    assert http_auth(tags, **more) is None


REFUSED_CALLS: dict[str, tuple[Tags, dict[str, Any], str]] = {
    "a login's kind": ([U, METHOD, PAYLOAD], {"kind": 22_242}, "kind must be 27235"),
    "too old": ([U, METHOD, PAYLOAD], {"at_s": NOW_S - 61}, "within 60 seconds"),
    "too far ahead": ([U, METHOD, PAYLOAD], {"at_s": NOW_S + 61}, "within 60 seconds"),
    "no u": ([METHOD, PAYLOAD], {}, "tag u is missing"),
    "u without a value": ([["u"], METHOD, PAYLOAD], {}, "tag u has no value"),
    "two u": ([U, U, METHOD, PAYLOAD], {}, "tag u stands more than once"),
    "without the query": ([["u", URL.partition("?")[0]], METHOD, PAYLOAD], {}, "tag u must be"),
    "another query": ([["u", URL + "&b=2"], METHOD, PAYLOAD], {}, "tag u must be"),
    "another host": ([["u", URL.replace("pay.", "pax.")], METHOD, PAYLOAD], {}, "tag u must be"),
    "another scheme": ([["u", URL.replace("https", "http")], METHOD, PAYLOAD], {}, "tag u must be"),
    "no method": ([U, PAYLOAD], {}, "tag method is missing"),
    "another method": ([U, ["method", "PUT"], PAYLOAD], {}, "tag method must be POST"),
    "two methods": ([U, METHOD, ["method", "PUT"], PAYLOAD], {}, "method stands more than once"),
    "body without payload": ([U, METHOD], {}, "tag payload is missing"),
    "another body's payload": ([U, METHOD, ["payload", "00" * 32]], {}, "not the SHA-256"),
    "payload in capitals": ([U, METHOD, ["payload", HASH.upper()]], {}, "not the SHA-256"),
    "payload of no body": ([U, METHOD, PAYLOAD], {"body": b""}, "not the SHA-256"),
    "two payloads": ([U, METHOD, PAYLOAD, ["payload", "00" * 32]], {}, "payload stands more than once"),
}


@pytest.mark.parametrize("name", REFUSED_CALLS)
def test_an_event_that_does_not_stand_for_the_call(name: str) -> None:
    tags, more, words = REFUSED_CALLS[name]
    with pytest.raises(InvalidEvent, match=words):
        http_auth(tags, **more)


# --- kind 22242 --------------------------------------------------------------------------------------------

RELAY = "https://pay.example.org"


def login(tags: Tags, *, kind: int = 22_242, at_s: int = NOW_S) -> str:
    return check_login(read_event(ME.event(kind, tags, created_at=at_s)), relay=RELAY, now_s=NOW_S)


@pytest.mark.parametrize("at_s", [NOW_S - 600, NOW_S, NOW_S + 600])
def test_a_login_answers_its_challenge(at_s: int) -> None:
    assert login([["x", "y"], ["challenge", "abc"], ["relay", RELAY]], at_s=at_s) == "abc"


REFUSED_LOGINS: dict[str, tuple[Tags, dict[str, Any], str]] = {
    "another kind": ([["relay", RELAY], ["challenge", "a"]], {"kind": 27_235}, "kind must be 22242"),
    "too old": ([["relay", RELAY], ["challenge", "a"]], {"at_s": NOW_S - 601}, "within 600 seconds"),
    "too far ahead": ([["relay", RELAY], ["challenge", "a"]], {"at_s": NOW_S + 601}, "within 600 seconds"),
    "another relay": ([["relay", "wss://relay.example.org"], ["challenge", "a"]], {}, "tag relay must be"),
    "no relay": ([["challenge", "a"]], {}, "tag relay is missing"),
    "no challenge": ([["relay", RELAY]], {}, "tag challenge is missing"),
    "two challenges": ([["relay", RELAY], ["challenge", "a"], ["challenge", "b"]], {}, "more than once"),
}


@pytest.mark.parametrize("name", REFUSED_LOGINS)
def test_an_event_that_is_no_login(name: str) -> None:
    tags, more, words = REFUSED_LOGINS[name]
    with pytest.raises(InvalidEvent, match=words):
        login(tags, **more)


def test_the_signer_of_the_tests_makes_json() -> None:
    assert read_event(json.loads(json.dumps(GOOD))).id == GOOD["id"]
