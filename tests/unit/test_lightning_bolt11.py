"""The local BOLT11 reader: the specification's own examples, and what strangers write."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.money import Msat
from lightning import bolt11
from lightning.types import BadPaymentRequest

HASH = bytes.fromhex("0001020304050607080900010203040506070809000102030405060708090102")
SPEC_TIME = datetime(2017, 6, 1, 10, 57, 38, tzinfo=UTC)
HASH_FIELD = "pp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypq"

COFFEE = (
    "lnbc2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpuazt"
    "rnwngzn3kdzw5hydlzf03qdgm2hdq27cqv3agm2awhz5se903vruatfhq77w3ls4evs3ch9zw97j25emudupq63nyw24cg27h2rspfj9srp"
)
TESTNET = (
    "lntb20m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqhp58yjmdan79s6qqdhdzgynm4zwqd5d7xm"
    "w5fk98klysy043l2ahrqsfpp3x9et2e20v6pu37c5d9vax37wxq72un98k6vcx9fz94w0qf237cm2rqv9pmn5lnexfvf5579slr4zq3u"
    "8kmczecytdx0xg9rwzngp7e6guwqpqlhssu04sucpnz4axcv2dstmknqq6jsk2l"
)
HASH_OF_WRONG_LENGTH_TOO = (
    "lnbc241pveeq09pp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqpp3qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqf"
    "qqqsyqcyq5rqwzqfqhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqshp38yjmdan79s6qqdhdzgynm4zwqd5d7"
    "xmw5fk98klysy043l2ahnp4q0n326hr8v9zprg8gsvezcch06gfaqqhde2aj730yg0durunfhv66np3q0n326hr8v9zprg8gsvezcch0"
    "6gfaqqhde2aj730yg0durunfy8huflvs2zwkymx47cszugvzn5v64ahemzzlmm62rpn9l9rm05h35aceq00tkt296289wepws9jh4499"
    "wq2l0vk6xcxffd90dpuqchqqztyayq"
)
WITHOUT_HASH = (
    "lnbc20m1pvjluezhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqsjv38luh6p6s2xrv3mzvlmzaya43376h0tw"
    "al5ax0k6p47498hp3hnaymzhsn424rxqjs0q7apn26yrhaxltq3vzwpqj9nc2r3kzwccsplnq470"
)


def signed(hrp: str, data: str) -> str:
    """The string with a signature of zeros and the right checksum."""
    words = [bolt11.CHARSET.index(c) for c in data] + [0] * bolt11.SIGNATURE_WORDS
    return hrp + "1" + "".join(bolt11.CHARSET[w] for w in [*words, *bolt11.checksum(hrp, words)])


def test_amount_expiry_and_description_are_read() -> None:
    assert bolt11.read(COFFEE) == bolt11.Bolt11(
        network="mainnet",
        amount_msat=Msat(250_000_000),
        created_at=SPEC_TIME,
        payment_hash=HASH,
        description="1 cup coffee",
        min_final_cltv=18,
        expires_at=SPEC_TIME + timedelta(seconds=60),
    )


def test_when_an_own_invoice_was_made_is_read_from_its_first_words() -> None:
    for invoice in (COFFEE, TESTNET):
        assert bolt11.created_at_of(invoice) == bolt11.read(invoice).created_at
    for fault in ("", "lnbc", "lnbc1", "lnbc1pvjlue", "lnbc1pvjlue!z", "lnbc1bbbbbbb"):
        with pytest.raises(BadPaymentRequest):
            bolt11.created_at_of(fault)


def test_defaults_hold_where_a_field_is_missing() -> None:
    parsed = bolt11.read(TESTNET)
    assert (parsed.network, parsed.amount_msat, parsed.description) == ("testnet", 2_000_000_000, "")
    assert parsed.expires_at - parsed.created_at == timedelta(hours=1)
    assert parsed.min_final_cltv == 18


def test_upper_case_reads_the_same() -> None:
    assert bolt11.read(COFFEE.upper()) == bolt11.read(COFFEE)


def test_a_second_hash_of_another_length_is_skipped() -> None:
    assert bolt11.read(HASH_OF_WRONG_LENGTH_TOO).payment_hash == HASH


@pytest.mark.parametrize(
    ("hrp", "network", "amount_msat"),
    [
        ("lnbcrt", "regtest", 0),
        ("lnbcrt1m", "regtest", 100_000_000),
        ("lnbc", "mainnet", 0),
        ("lnbc24", "mainnet", 2_400_000_000_000),
        ("lntb10n", "testnet", 1000),
        ("lntbs10n", "signet", 1000),
        ("lntbs", "signet", 0),
        ("lnbc10p", "mainnet", 1),
    ],
)
def test_network_and_amount_come_from_the_prefix(hrp: str, network: str, amount_msat: int) -> None:
    parsed = bolt11.read(signed(hrp, "pvjluez" + HASH_FIELD))
    assert (parsed.network, parsed.amount_msat) == (network, amount_msat)
    assert bolt11.network_of(signed(hrp, "pvjluez" + HASH_FIELD).upper()) == network


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "lnbc1",
        "hello",
        "lnbc1abcde",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        COFFEE[:-1],
        COFFEE.replace("u1p", "u1q"),
        COFFEE[:20] + COFFEE[20:].upper(),
        WITHOUT_HASH,
        signed("lnsb", "pvjluez" + HASH_FIELD),
        signed("lnbc0n", "pvjluez" + HASH_FIELD),
        signed("lnbc1p", "pvjluez" + HASH_FIELD),
        signed("lnbc10000000000000000000000m", "pvjluez" + HASH_FIELD),
        signed("lnbc", "pvjluez" + HASH_FIELD + "xq"),
        signed("lnbc", "pvjluez" + HASH_FIELD + "dl8qq"),
        signed("lnbc", "pvjluez" + HASH_FIELD + "xqs" + "l" * 16),
        "lnbc1" + "q" * 8000,
        "lnbc1Ω" + "q" * 200,
        "lnbcſ1" + "q" * 200,
    ],
)
def test_what_is_no_invoice_is_refused(text: str) -> None:
    with pytest.raises(BadPaymentRequest):
        bolt11.read(text)


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(BadPaymentRequest):
        bolt11.read(text)


@given(st.text(alphabet=bolt11.CHARSET, max_size=150))
def test_no_data_with_a_good_checksum_breaks_the_reader(data: str) -> None:
    with pytest.raises(BadPaymentRequest):
        bolt11.read(signed("lnbcrt", data[: bolt11.TIMESTAMP_WORDS] + data))
