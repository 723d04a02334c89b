"""The bound of pages holds: documents are really set, and never take more pages than were priced."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.work.pdf_document import read_document
from gateway.work.pdf_layout import RESERVE_PAGES, pages_at_most
from gateway.work.pdf_render import render

pytestmark = pytest.mark.slow

MAX = 20_000
PROSE = "The quick brown fox jumps over the lazy dog, and then it rests for a while in the shade. " * 8 + "\n\n"
PYTHON = "```python\n" + "def f(x): return {'a': [1, 2, (3,)]}  # hi\n" * 440 + "```"

NASTY = {
    "one character lines": "a\n\n" * 6600,
    "hard breaks": "a  \n" * 4900,
    "rules": "---\n" * 5000,
    "bare markers": "-\n" * 10_000,
    "headings": "# a\n" * 5000,
    "headings of all sizes": "# a\n## b\n### c\ntext\n\n" * 900,
    "a heading of a thousand words": "# " + "long heading words " * 1000,
    "underlined headings": "Title\n===\n" * 1900,
    "loose list": "- a\n\n" * 4900,
    "big numbers": "999999990. abc def\n" * 1000,
    "nested list": "\n".join("  " * (i % 6) + "- word word" for i in range(1200)),
    "nested quotes": "\n\n".join(">" * (i % 6) + " a word" for i in range(1200)),
    "code lines": "```\n" + "x\n" * 9900 + "```",
    "empty fences": "```\n```\n" * 2400,
    "one long code line": "    " + "x" * 19_000,
    "highlighted code": PYTHON,
    "small tables": "|a|\n|-|\n\n" * 2000,
    "table of one letter cells": "|a|b|\n|-|-|\n" + "|x|y|\n" * 3000,
    "twelve columns": "|" + "a|" * 12 + "\n|" + "-|" * 12 + "\n" + ("|" + "hello wor|" * 12 + "\n") * 150,
    "narrow columns of one word": "|" + "a|" * 12 + "\n|" + "-|" * 12 + "\n|" + ("W" * 1500 + "|") * 12,
    "tall table header": "|" + "abc " * 2000 + "|b|\n|-|-|\n" + "|x|y|\n" * 1000,
    "wide letters": "W" * MAX,
    "wide words": "W " * 10_000,
    "narrow letters": "i" * MAX,
    "no break before": "a ! " * 5000,
    "never a break": "! " * 10_000,
    "dashes": "aaaaa — bbbbb " * 1400,
    "one address": "https://example.com/" + "a/b-c?d=e&" * 1900,
    "wide symbols": "⒇ ⟶ " * 5000,
    "combining marks": "e\u0301" * 9000,
    "unbreakable spaces": "a\u00a0" * 9000,
    "entities": "&#x4e00;" * 2500,
    "inline code": "`a` " * 5000,
    "brackets": "[" * MAX,
    "stars": "*a**b" * 4000,
    "autofilled cells": "|" + "a|" * 100 + "\n|" + "-|" * 100 + "\n" + "|\n" * 9700,
}


def set_pages(work_input: dict[str, Any], root: object) -> int:
    _, pages = render(read_document(work_input), str(work_input.get("paper") or "a4"), str(root))
    return pages


@pytest.mark.parametrize("name", NASTY)
def test_nasty_documents_stay_within_their_price(name: str, tmp_path: object) -> None:
    paper = "letter" if len(name) % 2 else "a4"
    work_input = {"markdown": NASTY[name][:MAX], "title": "T " * 90, "paper": paper}
    assert 1 <= set_pages(work_input, tmp_path) <= pages_at_most(work_input) - RESERVE_PAGES


PIECES = ["# h\n", "## " + "long " * 30 + "\n", "- a\n", "  - b\n", "7. c\n", "> q\n", "\n\n", "word " * 40, "`code`"]
PIECES += [
    "|a|b|\n|-|-|\n|c|d|\n",
    "\n```\ncode\n\nmore\n```\n",
    "---\n",
    "**b**",
    "  \n",
    "W" * 90,
    "    x\n",
    "! ",
    "(",
]
PIECES += [
    '"',
    ") ",
    "é",
    "⟶",
    "_i_ ",
    "\\\n",
    "[l](https://example.org/a) ",
    "~~s~~",
    "Щ" * 20,
    "\t",
    "&amp;",
    "~",
    "'",
]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=400), title=st.sampled_from(["", "A title"]))
def test_any_mixture_stays_within_its_price(pieces: list[str], title: str, tmp_path: object) -> None:
    work_input = {"markdown": "".join(pieces)[:MAX] or "a", "title": title}
    assert set_pages(work_input, tmp_path) <= pages_at_most(work_input) - RESERVE_PAGES


def test_a_page_of_prose_is_priced_a_little_above_what_it_takes(tmp_path: object) -> None:
    work_input = {"markdown": PROSE * 4, "title": "Prose"}
    assert (pages_at_most(work_input), set_pages(work_input, tmp_path)) == (3, 1)


def test_two_documents_of_equal_estimate_can_cost_differently(tmp_path: object) -> None:
    lean, full = ({"markdown": PROSE * paragraphs} for paragraphs in (5, 7))
    assert pages_at_most(lean) == pages_at_most(full)
    assert set_pages(lean, tmp_path) < set_pages(full, tmp_path)
