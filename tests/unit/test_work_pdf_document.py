"""Markdown to blocks: what is kept, what is flattened, and that nothing active survives."""

from __future__ import annotations

import pytest

from gateway.work.pdf_document import (
    MAX_NESTING,
    Block,
    CodeBlock,
    Heading,
    ItemList,
    Paragraph,
    Quote,
    Rule,
    Span,
    Table,
    read_document,
)


def blocks(markdown: str) -> tuple[Block, ...]:
    return read_document({"markdown": markdown}).blocks


def test_styles_of_a_line() -> None:
    (paragraph,) = blocks("a **b *c*** ~~d~~ `e  f`\ng  \nh")
    assert paragraph == Paragraph(
        (
            Span("a "),
            Span("b ", bold=True),
            Span("c", bold=True, italic=True),
            Span(" "),
            Span("d", struck=True),
            Span(" "),
            Span("e f", code=True),
            Span(" g"),
            Span("\n"),
            Span("h"),
        )
    )


def test_every_kind_of_block() -> None:
    kinds = [type(b) for b in blocks("# a\n\nb\n\n- c\n\n1. d\n\n> e\n\n---\n\n```py\nf\n```\n\n|a|\n|-|\n|b|\n")]
    assert kinds == [Heading, Paragraph, ItemList, ItemList, Quote, Rule, CodeBlock, Table]


def test_tight_and_loose_lists() -> None:
    (tight,) = blocks("3. a\n4. b\n")
    assert tight == ItemList(3, True, ((Paragraph((Span("a"),), True),), (Paragraph((Span("b"),), True),)))
    (loose,) = blocks("- a\n\n- b\n")
    assert isinstance(loose, ItemList)
    assert (loose.start, loose.tight) == (None, False)


def test_table_cells_and_alignments() -> None:
    (table,) = blocks("|a|b|c|\n|:-|:-:|-:|\n|1|2|\n")
    assert isinstance(table, Table)
    assert table.alignments == ("left", "center", "right")
    assert table.rows == (((Span("1"),), (Span("2"),), ()),)


def test_a_table_that_would_blow_up_stays_text() -> None:
    wide = "|" + "a|" * 60 + "\n|" + "-|" * 60 + "\n" + "|\n" * 5
    tall = "|" + "a|" * 10 + "\n|" + "-|" * 10 + "\n" + "|\n" * 5000
    assert not any(isinstance(b, Table) for b in blocks(wide) + blocks(tall))


def test_html_and_images_are_text() -> None:
    (paragraph,) = blocks('<b onclick="x">hi</b> ![a *cat*](https://example.org/cat.png) ![](x)')
    assert isinstance(paragraph, Paragraph)
    text = "".join(span.text for span in paragraph.spans)
    assert text == '<b onclick="x">hi</b> [a *cat*] [image]'
    assert all(span.href is None for span in paragraph.spans)


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("https://example.org/a?b=c#d", True),
        ("http://example.org", True),
        ("mailto:a@example.org", True),
        ("javascript:alert(1)", False),
        ("file:///etc/passwd", False),
        ("data:text/html,x", False),
        ("/local", False),
        ("#fragment", False),
        ("https://example.org/" + "a" * 3000, False),
    ],
)
def test_links(target: str, kept: bool) -> None:
    (paragraph,) = blocks(f"[text]({target})")
    assert isinstance(paragraph, Paragraph)
    assert [span.href is not None for span in paragraph.spans if "text" in span.text] == [kept]


def words(level: tuple[Block, ...]) -> list[str]:
    found = []
    for block in level:
        if isinstance(block, ItemList):
            found += [word for item in block.items for word in words(item)]
        if isinstance(block, Quote):
            found += words(block.blocks)
        if isinstance(block, Paragraph):
            found += "".join(span.text for span in block.spans).split()
    return found


def test_deep_nesting_is_flattened_and_loses_no_word() -> None:
    markdown = "\n".join("  " * level + f"- {level}" for level in range(40))
    depth, level = 0, blocks(markdown)
    assert [word for word in words(level) if word != "-"] == [str(number) for number in range(40)]
    while lists := [block for block in level if isinstance(block, ItemList)]:
        depth, level = depth + 1, lists[0].items[0]
    assert depth == MAX_NESTING


@pytest.mark.parametrize("marker", ["> ", "- ", "1. ", "> - "])
def test_text_behind_a_thousand_markers_is_kept(marker: str) -> None:
    assert words(blocks(marker * 1000 + "deep"))[-1] == "deep"


def test_what_shows_nothing_is_left_out() -> None:
    assert blocks("#\n\n&#32;\n\n[a]: http://x\n\n>\n") == ()


def test_entities_cannot_bring_in_what_no_font_has() -> None:
    assert blocks("&#x4e00;&#0;&#x202e;") == (Paragraph((Span("\ufffd\ufffd\ufffd"),)),)


def test_languages_of_code_are_names() -> None:
    assert blocks("```Rust ignore\nx\ty\n```") == (CodeBlock(("x   y",), "rust"),)
    assert blocks('```a"b\nx\n```') == (CodeBlock(("x",), ""),)


def test_titles_are_one_line() -> None:
    assert read_document({"markdown": "a", "title": " a\n b "}).title == "a b"
