"""A plot's SVG: every value is drawn inside it, nothing runs in it, and it is light or dark by its own styles."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Literal
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.pages.operator.drawing import NARROW, WIDE, Series, Shape, amount, colours, draw
from gateway.pages.operator.plots import in_words

SVG = "{http://www.w3.org/2000/svg}"
AMOUNTS = st.integers(-(10**16), 10**16)
HOSTILE = '<script>alert(1)</script> & "quoted"'


def series(values: list[int], kind: Literal["bars", "line"] = "bars", title: str = "Revenue a day") -> Series:
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(len(values))]
    return Series(title, kind, "sats", days, values)


def read(drawn: bytes) -> ElementTree.Element:
    return ElementTree.fromstring(drawn)  # noqa: S314 - our own


def words(root: ElementTree.Element, inside: str) -> list[str]:
    """The titles of bars or of points."""
    return [str(part.findtext(f"{SVG}title")) for part in root.iter(f"{SVG}g") if part.get("class") == inside]


@settings(max_examples=40, deadline=None)
@given(st.lists(AMOUNTS, min_size=1, max_size=40), st.sampled_from(["bars", "line"]), st.sampled_from([WIDE, NARROW]))
def test_every_value_is_within_the_drawing(values: list[int], kind: Literal["bars", "line"], shape: Shape) -> None:
    root = read(draw(series(values, kind), shape))
    assert (root.get("width"), root.get("height")) == (str(shape.width), str(shape.height))
    numbers = [float(part.get(name, "0")) for part in root.iter() for name in ("x", "y", "cx", "cy", "width", "height")]
    assert all(-shape.width <= number <= shape.width for number in numbers), "no NaN, nothing far off"
    assert len(words(root, "bar" if kind == "bars" else "dots")) == len(values)


def test_what_each_day_says() -> None:
    root = read(draw(series([1234567, -20, 0]), WIDE))
    assert words(root, "bar") == ["1 Jan: 1,234,567 sats", "2 Jan: −20 sats", "3 Jan: 0 sats"]
    assert root.findtext(f"{SVG}title") == "Revenue a day"
    shown = [part.text for part in root.iter(f"{SVG}text")]
    assert "1,200,000" in shown
    assert "sats" in shown


@pytest.mark.parametrize("kind", ["bars", "line"])
def test_a_new_gateway_has_an_axis_from_none_to_one(kind: Literal["bars", "line"]) -> None:
    root = read(draw(series([0] * 30, kind), WIDE))
    side = [part.text for part in root.iter(f"{SVG}text") if part.get("x") == "-5"]
    assert side == ["0", "1"]


def test_days_are_named_a_week_apart_and_the_last_one_always() -> None:
    root = read(draw(series([5] * 30), WIDE))
    below = [part.text for part in root.iter(f"{SVG}text") if re.fullmatch(r"\d+ [A-Z][a-z]+", part.text or "")]
    assert below == ["2 Jan", "9 Jan", "16 Jan", "23 Jan", "30 Jan"]


def test_nothing_runs_in_it_and_nothing_is_fetched() -> None:
    drawn = draw(series([1, 2], title=HOSTILE), WIDE).decode()
    root = read(drawn.encode())
    assert root.findtext(f"{SVG}title") == HOSTILE, "words stay words"
    assert not list(root.iter(f"{SVG}script"))
    assert not list(root.iter(f"{SVG}desc"))
    assert re.findall(r"\w+://[^\s\"<]+", drawn) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"href|url\(|@import| on[a-z]+=", drawn)


def test_its_colours_are_the_pages_own_for_light_and_for_dark() -> None:
    light, dark = colours().split("@media (prefers-color-scheme: dark)")
    for name in set(re.findall(r"var\((--[a-z-]+)\)", draw(series([1]), WIDE).decode())):
        assert len({re.search(f"{name}: (#[0-9a-f]+);", part)[1] for part in (light, dark)}) == 2  # type: ignore[index]


@pytest.mark.parametrize(("ground", "ink"), [("--card", "--soft")])
def test_its_words_can_be_read(ground: str, ink: str) -> None:
    for part in colours().split("@media"):
        named = dict(re.findall(r"(--[a-z-]+): (#[0-9a-f]{6});", part))
        assert contrast(named[ground], named[ink]) >= 4.5
        assert contrast(named[ground], named["--accent"]) >= 3


def contrast(one: str, other: str) -> float:
    """As WCAG counts it."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])


@pytest.mark.parametrize(("value", "word"), [(0, "0"), (1500, "1,500"), (-5000.0, "−5,000"), (3e6, "3,000,000")])
def test_amounts_at_the_side(value: float, word: str) -> None:
    assert amount(value) == word


@pytest.mark.parametrize(
    ("drawn", "words"),
    [
        (series([0, 0]), "Revenue a day: none in 2 days."),
        (series([1000, 5, 7]), "Revenue a day: 1,012 sats in 3 days; most 1,000 sats on 1 January, 7 today."),
        (
            series([10, 5, 7], "line", "The pool"),
            "The pool: from 10 to 7 sats in 3 days; most 10 sats on 1 January, least 5 sats on 2 January.",
        ),
    ],
)
def test_the_same_in_words(drawn: Series, words: str) -> None:
    assert in_words(drawn) == words
