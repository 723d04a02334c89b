"""A rate as it is read, and what sats are worth in words: truth tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from babel import Locale

from gateway.catalogue.model import CpuPrice, FlatPrice, PagePrice, TokenPrice
from gateway.fiat.rate import BadRate, Rate, is_fresh, is_pointer, public_name, rate_in
from gateway.pages.fiat import fiat_beside, fiat_note, fiat_of
from gateway.pages.language import ENGLISH, Language, read_languages, speaking
from gateway.pages.prices import one_price

GERMAN = read_languages(Path(__file__).resolve().parents[2] / "templates" / "locale")["de"]
NOW = datetime(2026, 5, 3, 4, 5, tzinfo=UTC)
NBSP = "\u00a0"


def rate(per_bitcoin: str = "65000", currency: str = "EUR", source: str = "prices.example") -> Rate:
    return Rate(currency, Decimal(per_bitcoin), source, NOW)


@pytest.mark.parametrize(
    ("body", "pointer", "price"),
    [
        (b'{"bitcoin": {"eur": 65000}}', "/bitcoin/eur", "65000"),
        (b'{"bitcoin": {"eur": 65000.10}}', "/bitcoin/eur", "65000.10"),
        (b'{"price": "65000.123456789"}', "/price", "65000.123456789"),
        (b'{"price": 6.5e4}', "/price", "6.5E+4"),
        (b'{"price": "6.5e4"}', "/price", "6.5E+4"),
        (b'[{"last": 1}, {"last": 2}]', "/1/last", "2"),
        (b'{"a/b": {"m~n": {"": 9}}}', "/a~1b/m~0n/", "9"),
        (b'{"0": 7}', "/0", "7"),
        (b"65000", "", "65000"),
        (b'"65000"', "", "65000"),
        (b"1", "", "1"),
        (b"10000000000000", "", "10000000000000"),
    ],
)
def test_a_price_is_read_exactly(body: bytes, pointer: str, price: str) -> None:
    assert str(rate_in(body, pointer)) == price


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"", ""),
        (b"<html>", ""),
        (b"{", ""),
        (b"\xff\xfe\xfa", ""),
        (b"[" * 100_000, ""),
        (b'{"price": NaN}', "/price"),
        (b'{"price": Infinity}', "/price"),
        (b'{"price": "NaN"}', "/price"),
        (b'{"price": "sNaN"}', "/price"),
        (b'{"price": "Infinity"}', "/price"),
        (b'{"price": 1e99999999999999999999}', "/price"),
        (b'{"price": 1e999999}', "/price"),
        (b'{"price": -65000}', "/price"),
        (b'{"price": "-65000"}', "/price"),
        (b'{"price": 0}', "/price"),
        (b'{"price": 0.99}', "/price"),
        (b'{"price": 10000000000001}', "/price"),
        (b'{"price": "65,000"}', "/price"),
        (b'{"price": " 65000"}', "/price"),
        (b'{"price": "65_000"}', "/price"),
        ('{"price": "٦٥"}'.encode(), "/price"),
        (b'{"price": ""}', "/price"),
        (b'{"price": true}', "/price"),
        (b'{"price": null}', "/price"),
        (b'{"price": [65000]}', "/price"),
        (b'{"price": {"eur": 65000}}', "/price"),
        (b'{"other": 65000}', "/price"),
        (b'{"price": 65000}', "/price/0"),
        (b"[65000]", "/1"),
        (b"[65000]", "/-"),
        (b"[65000]", "/00"),
        (b"[65000]", "/-1"),
        (b'{"price": 65000}', ""),
        (b'{"price": ' + b"9" * 60_000 + b"}", "/price"),
    ],
)
def test_what_is_no_price_is_refused_in_plain_words(body: bytes, pointer: str) -> None:
    with pytest.raises(BadRate) as refused:
        rate_in(body, pointer)
    assert str(refused.value).endswith(".")
    assert len(str(refused.value)) < 100


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("", True),
        ("/", True),
        ("/bitcoin/eur", True),
        ("/a~0b/c~1d", True),
        ("bitcoin/eur", False),
        ("#/bitcoin", False),
        ("/a~2b", False),
        ("/a~", False),
    ],
)
def test_pointers(text: str, is_one: bool) -> None:
    assert is_pointer(text) is is_one


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("api.example.com", "api.example.com"),
        ("API.Example.com.", "api.example.com"),
        ("localhost", ""),
        ("prices", ""),
        ("127.0.0.1", ""),
        ("10.0.0.5", ""),
        ("::1", ""),
        ("2001:db8::1.2.3.4", ""),
        ("prices.internal", ""),
        ("box.lan", ""),
        ("", ""),
    ],
)
def test_a_private_host_is_not_named(host: str, shown: str) -> None:
    assert public_name(host) == shown


@pytest.mark.parametrize(
    ("amount_sats", "known", "english", "german"),
    [
        (100, None, "", ""),
        (None, rate(), "", ""),
        (0, rate(), "", ""),
        (646, rate(), "≈ €0.42", f"≈ 0,42{NBSP}€"),
        (1_000_000, rate(), "≈ €650.00", f"≈ 650,00{NBSP}€"),
        (100_000_000, rate("65000.5"), "≈ €65,000.50", f"≈ 65.000,50{NBSP}€"),
        (15, rate(), "< €0.01", f"< 0,01{NBSP}€"),
        (16, rate(), "≈ €0.01", f"≈ 0,01{NBSP}€"),
        (1, rate("1000000"), "≈ €0.01", f"≈ 0,01{NBSP}€"),
        (1, rate("999999.99"), "< €0.01", f"< 0,01{NBSP}€"),
        (100, rate("9000000", "JPY"), "≈ ¥9", f"≈ 9{NBSP}¥"),
        (1, rate("9000000", "JPY"), "< ¥1", f"< 1{NBSP}¥"),
        (1000, rate("58000", "CHF"), f"≈ CHF{NBSP}0.58", f"≈ 0,58{NBSP}CHF"),
        (1, rate("19000", "KWD"), f"< KWD{NBSP}0.001", f"< 0,001{NBSP}KWD"),
        (2_100_000_000_000_000, rate("1e13"), "≈ €210,000,000,000,000,000,000.00", None),
    ],
)
def test_what_sats_are_worth(amount_sats: Any, known: Rate | None, english: str, german: str | None) -> None:
    assert fiat_of(amount_sats, known) == english
    with speaking(GERMAN):
        assert german is None or fiat_of(amount_sats, known) == german


def test_from_right_to_left_it_keeps_its_order() -> None:
    with speaking(Language("ar", Locale("ar"), ENGLISH.texts)):
        assert fiat_of(646, rate()).startswith("\u2068≈ ")


def test_the_note_says_whose_rate_it_is_and_of_when() -> None:
    assert fiat_note(rate()) == (
        "One bitcoin is €65,000.00, says prices.example (3 May 2026, 04:05 UTC). Only sats are charged."
    )
    assert fiat_note(rate(source="")) == "One bitcoin is €65,000.00 (3 May 2026, 04:05 UTC). Only sats are charged."
    assert fiat_note(None) == ""


def test_the_markup_is_safe_and_brings_its_own_space() -> None:
    assert fiat_beside(15, rate(source='"><b>')) == (
        ' <span class="fiat" title="One bitcoin is €65,000.00, says &#34;&gt;&lt;b&gt; (3 May 2026, 04:05 UTC). '
        'Only sats are charged.">&lt; €0.01</span>'
    )
    assert fiat_beside(15, None) == ""


@pytest.mark.parametrize(
    ("price", "amount_sats"),
    [
        (FlatPrice(estimate_sats=100), 100),
        (PagePrice(per_page_sats=10), 10),
        (CpuPrice(per_cpu_second_sats=5, max_cpu_s=20), None),
        (TokenPrice(per_1k_input_tokens_sats=2, per_1k_output_tokens_sats=6, max_output_tokens=10), None),
    ],
)
def test_a_price_of_several_parts_has_no_one_worth(price: Any, amount_sats: int | None) -> None:
    assert one_price(price) == amount_sats


@pytest.mark.parametrize(("age_s", "fresh"), [(0, True), (900, True), (901, False), (-5, True)])
def test_a_rate_is_fresh_up_to_its_age(age_s: int, fresh: bool) -> None:
    assert is_fresh(rate(), NOW + timedelta(seconds=age_s), 900) is fresh
