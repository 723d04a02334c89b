"""How text is broken and what is kept together: the pure half of the bound of pages."""

from __future__ import annotations

from gateway.work.pdf_document import HARD_BREAK, Span, read_document
from gateway.work.pdf_layout import MAY_BREAK_HERE, flow, lay_out


def test_text_that_fits_is_one_line() -> None:
    assert flow((Span("a b"),), 10_000, 100_000).lines == 1


def test_lines_count_breaks_and_full_lines() -> None:
    assert flow((Span("a"), Span(HARD_BREAK), Span("b")), 10_000, 100_000).lines == 2
    assert flow((Span("aaaa bbbb cccc"),), 10_000, 26_000).lines == 3


def test_a_word_longer_than_its_line_may_break_anywhere_and_no_other_may() -> None:
    text = flow((Span("short " + "x" * 50),), 10_000, 60_000)
    joined = "".join(span.text for span in text.spans)
    assert joined.replace(MAY_BREAK_HERE, "") == "short " + "x" * 50
    assert joined.startswith("short " + MAY_BREAK_HERE + "x" + MAY_BREAK_HERE + "x")
    assert text.lines > 4


def test_words_across_styles_are_one_word() -> None:
    together = flow((Span("aaa"), Span("bbb", bold=True), Span(" c")), 10_000, 30_000)
    assert together.lines == 2


def test_at_most_two_headings_are_kept_with_what_follows() -> None:
    layout = lay_out(read_document({"markdown": "# a\n# b\n# c\n\ntext\n\n# d"}), "a4")
    assert [node["kept"] for node in layout.nodes if node["kind"] == "heading"] == [True, True, False, True]
