"""Every measure of the PDF's layout, and from it the most pages that a document can take. Pure; integers only.

The same numbers go to the Typst template and into the bound, so the two cannot drift apart. The bound is
kept from above: widths are the widest of each character, lines break only where Typst surely can, and each
page is counted as losing what the page breaks may waste. Lengths are in thousandths of a point (`mpt`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any, TypeAlias

from gateway.work.pdf_characters import UNITS_PER_EM, character_width, monospace_cells
from gateway.work.pdf_document import (
    HARD_BREAK,
    Block,
    CodeBlock,
    Document,
    Heading,
    ItemList,
    Paragraph,
    Quote,
    Rule,
    Span,
    Spans,
    Table,
    read_document,
)

Node: TypeAlias = dict[str, Any]

PAPERS_MPT = {"a4": (595_276, 841_890), "letter": (612_000, 792_000)}
MARGIN_X_MPT = 78_000
MARGIN_TOP_MPT = 74_000
MARGIN_BOTTOM_MPT = 80_000

TEXT_MPT = 11_000
LEADING_MPT = 5_400
LINE_MPT = TEXT_MPT + LEADING_MPT
SPACING_MPT = 10_500
TIGHT_MPT = LEADING_MPT

TITLE_MPT = 25_000
TITLE_BELOW_MPT = 26_000
HEADING_SIZES_MPT = (19_000, 15_000, 12_800, 11_600, 11_000, 11_000)
HEADING_ABOVE_MPT = (26_000, 22_000, 18_000, 16_000, 15_000, 15_000)
HEADING_BELOW_MPT = (11_000, 9_500, 8_500, 7_500, 7_000, 7_000)
HEADING_LEADING_MPT = 4_000
KEPT_HEADING_LINES = 3
KEPT_HEADINGS = 2

CODE_MPT = 9_000
CODE_LEADING_MPT = 4_200
CODE_INSET_MPT = 9_000
CODE_CELL_MPT = 5_420

QUOTE_INSET_MPT = 14_000
RULE_ABOVE_MPT = 14_000
RULE_MPT = 1_000
LIST_INDENT_MPT = 4_000
LIST_MARKER_MPT = 7_000
LIST_GAP_MPT = 6_000
CELL_X_MPT = 6_000
CELL_Y_MPT = 4_500
CELL_TEXT_MPT = 10_000
REPEATED_HEADER_LINES = 3

INLINE_CODE_UNITS = 11
KERNING_PERCENT = 3
MAY_BREAK_HERE = "\u200b"

RESERVE_PAGES = 1
"""Counted on top, so that nothing this file overlooks costs the operator a page."""


STYLE = {
    name.lower(): value for name, value in globals().copy().items() if name.endswith("_MPT") and name != "PAPERS_MPT"
}
"""Every measure above by its name in small letters: the template reads them here."""


@dataclass(frozen=True, slots=True)
class Layout:
    """`nodes` is what the template sets; `height_mpt` what it takes at most, without page breaks."""

    nodes: tuple[Node, ...]
    height_mpt: int
    lost_per_page_mpt: int
    paper: str

    @property
    def pages_at_most(self) -> int:
        height = PAPERS_MPT[self.paper][1] - MARGIN_TOP_MPT - MARGIN_BOTTOM_MPT
        return -(-self.height_mpt // (height - self.lost_per_page_mpt)) + RESERVE_PAGES


def lay_out(document: Document, paper: str) -> Layout:
    """Break and measure a document for one of `PAPERS_MPT`."""
    width_mpt = PAPERS_MPT[paper][0] - 2 * MARGIN_X_MPT
    typesetter = _Typesetter()
    pieces = list(typesetter.title(document.title, width_mpt))
    pieces += typesetter.set_all(document.blocks, width_mpt)
    height_mpt = max(_stacked(pieces), LINE_MPT)
    return Layout(tuple(p.node for p in pieces), height_mpt, typesetter.lost_per_page_mpt, paper)


def pages_at_most(input: Mapping[str, object]) -> int:
    """The hard bound of pages of a checked `pdf` input, at least 1."""
    return lay_out(read_document(input), str(input.get("paper") or "a4")).pages_at_most


@dataclass(frozen=True, slots=True)
class _Piece:
    node: Node
    height_mpt: int
    above_mpt: int = SPACING_MPT
    below_mpt: int = SPACING_MPT


def _stacked(pieces: Sequence[_Piece]) -> int:
    gaps = (max(upper.below_mpt, lower.above_mpt) for upper, lower in pairwise(pieces))
    return sum(piece.height_mpt for piece in pieces) + sum(gaps)


def _lines_height(lines: int, size_mpt: int, leading_mpt: int) -> int:
    return lines * size_mpt + (lines - 1) * leading_mpt


@dataclass(slots=True)
class _Typesetter:
    """Sets blocks one after the other and remembers the worst that a page break may waste."""

    lost_per_page_mpt: int = 3 * LINE_MPT
    _headings_in_a_row: list[int] = field(default_factory=list)
    _open_lists: int = 0

    def title(self, title: str, width_mpt: int) -> Iterator[_Piece]:
        if title:
            text = flow((Span(title, bold=True),), TITLE_MPT, width_mpt)
            height = _lines_height(text.lines, TITLE_MPT, HEADING_LEADING_MPT)
            node = {"kind": "title", "spans": _span_nodes(text.spans)}
            yield _Piece(node, height, below_mpt=TITLE_BELOW_MPT)

    def set_all(self, blocks: Sequence[Block], width_mpt: int) -> list[_Piece]:
        return [self._set(block, width_mpt) for block in blocks]

    def _set(self, block: Block, width_mpt: int) -> _Piece:
        if isinstance(block, Heading):
            return self._heading(block, width_mpt)
        self._headings_in_a_row.clear()
        match block:
            case Paragraph():
                text = flow(block.spans, TEXT_MPT, width_mpt)
                node: Node = {"kind": "paragraph", "spans": _span_nodes(text.spans)}
                return _Piece(node, _lines_height(text.lines, TEXT_MPT, LEADING_MPT))
            case CodeBlock():
                return _code(block, width_mpt)
            case Rule():
                return _Piece({"kind": "rule"}, RULE_MPT, RULE_ABOVE_MPT, RULE_ABOVE_MPT)
            case Quote():
                pieces = self.set_all(block.blocks, width_mpt - QUOTE_INSET_MPT)
                return _Piece({"kind": "quote", "nodes": [p.node for p in pieces]}, _stacked(pieces))
            case ItemList():
                return self._list(block, width_mpt)
            case Table():
                return self._table(block, width_mpt)

    def _heading(self, heading: Heading, width_mpt: int) -> _Piece:
        size = HEADING_SIZES_MPT[heading.level - 1]
        above, below = HEADING_ABOVE_MPT[heading.level - 1], HEADING_BELOW_MPT[heading.level - 1]
        text = flow(heading.spans, size, width_mpt)
        height = _lines_height(text.lines, size, HEADING_LEADING_MPT)
        kept = text.lines <= KEPT_HEADING_LINES and len(self._headings_in_a_row) < KEPT_HEADINGS
        if kept:
            self._headings_in_a_row.append(above + height + below)
            self._may_lose(sum(self._headings_in_a_row) + 3 * LINE_MPT)
        else:
            self._headings_in_a_row.clear()
        node = {"kind": "heading", "level": heading.level, "kept": kept, "spans": _span_nodes(text.spans)}
        return _Piece(node, height, above, below)

    def _list(self, block: ItemList, width_mpt: int) -> _Piece:
        digits = 1 if block.start is None else len(str(block.start + len(block.items))) + 1
        body_mpt = width_mpt - LIST_INDENT_MPT - digits * LIST_MARKER_MPT - LIST_GAP_MPT
        spacing = TIGHT_MPT if block.tight else SPACING_MPT
        nested = self._open_lists > 0
        self._open_lists += 1
        items = [self._item(item, body_mpt) for item in block.items]
        self._open_lists -= 1
        height = sum(item_mpt for _, item_mpt in items) + (len(items) - 1) * spacing
        node = {"kind": "list", "start": block.start, "spacing": spacing, "nested": nested}
        return _Piece({**node, "items": [nodes for nodes, _ in items]}, height)

    def _item(self, blocks: Sequence[Block], width_mpt: int) -> tuple[list[Node], int]:
        pieces = self.set_all(blocks, width_mpt)
        self._headings_in_a_row.clear()
        return [piece.node for piece in pieces], max(_stacked(pieces), TEXT_MPT)

    def _table(self, table: Table, width_mpt: int) -> _Piece:
        widths = _column_widths(table, width_mpt)
        rows: list[list[Node]] = []
        height = 0
        for cells in (table.header, *table.rows):
            texts = [flow(spans, CELL_TEXT_MPT, width) for spans, width in zip(cells, widths, strict=False)]
            lines = max(text.lines for text in texts)
            row_mpt = _lines_height(lines, CELL_TEXT_MPT, LEADING_MPT) + 2 * CELL_Y_MPT
            if not rows:
                repeated = lines <= REPEATED_HEADER_LINES
                self._may_lose(3 * LINE_MPT + (row_mpt if repeated else 0))
            height += row_mpt
            rows.append([{"spans": _span_nodes(text.spans)} for text in texts])
        node = {
            "kind": "table",
            "columns": [width + 2 * CELL_X_MPT for width in widths],
            "alignments": list(table.alignments),
            "header": rows[0],
            "repeated": repeated,
            "rows": rows[1:],
        }
        return _Piece(node, height)

    def _may_lose(self, height_mpt: int) -> None:
        self.lost_per_page_mpt = max(self.lost_per_page_mpt, height_mpt)


def _code(block: CodeBlock, width_mpt: int) -> _Piece:
    columns = (width_mpt - 2 * CODE_INSET_MPT) // CODE_CELL_MPT
    lines = [part for line in block.lines for part in _cut(line, columns)]
    height = _lines_height(len(lines), CODE_MPT, CODE_LEADING_MPT) + 2 * CODE_INSET_MPT
    return _Piece({"kind": "code", "language": block.language, "text": "\n".join(lines)}, height)


def _cut(line: str, columns: int) -> Iterator[str]:
    """A code line in parts that fit; an empty line is one part."""
    part: list[str] = []
    used = 0
    for character in line.rstrip(" "):
        cells = monospace_cells(character)
        if used + cells > columns:
            yield "".join(part)
            part, used = [], 0
        part.append(character)
        used += cells
    yield "".join(part)


def _column_widths(table: Table, width_mpt: int) -> list[int]:
    """Text widths of the columns: as wide as they like if that fits, else shared by what they hold."""
    columns = len(table.header)
    room_mpt = width_mpt - columns * 2 * CELL_X_MPT
    wished = [TEXT_MPT] * columns
    for cells in (table.header, *table.rows):
        for column, spans in enumerate(cells[:columns]):
            width = 1 + _width_of(spans, CELL_TEXT_MPT) * 100 // (100 - KERNING_PERCENT)
            wished[column] = max(wished[column], min(width, 2 * room_mpt))
    if sum(wished) <= room_mpt:
        return wished
    fair_mpt = room_mpt // columns
    least = [min(width, fair_mpt * 2 // 3) for width in wished]
    spare_mpt = room_mpt - sum(least)
    wanting = [width - floor for width, floor in zip(wished, least, strict=True)]
    return [floor + spare_mpt * want // sum(wanting) for floor, want in zip(least, wanting, strict=True)]


def _width_of(spans: Spans, size_mpt: int) -> int:
    return sum(_text_units(span.text, span.code) for span in spans) * size_mpt // UNITS_PER_EM


@dataclass(frozen=True, slots=True)
class Flow:
    """Text that fits a width: words too long for a line carry marks where they may break."""

    lines: int
    spans: Spans


_PIECES = re.compile(r" |[^ ]+")
_NO_BREAK_BEFORE = frozenset("!?,.;:/)]}|%\"'")
_NO_BREAK_AFTER = frozenset("([{\"'")


def flow(spans: Spans, size_mpt: int, width_mpt: int) -> Flow:
    """Lines that the text takes at most at this size and width, at least one."""
    room = max(1, width_mpt * (100 - KERNING_PERCENT) * UNITS_PER_EM // (100 * size_mpt))
    set_spans: list[Span] = []
    lines, used = 1, 0
    for word in _words(spans):
        if word[0].text == HARD_BREAK:
            lines, used = lines + 1, 0
            set_spans.append(word[0])
            continue
        units = sum(_text_units(span.text, span.code) for span in word)
        ink = units - (_SPACE_UNITS if word[-1].text.endswith(" ") else 0)
        if ink > room:
            extra, used = _broken_lines(word, used, room)
            lines += extra
            set_spans.extend(span.saying(_breakable(span.text)) for span in word)
            continue
        if used and used + ink > room:
            lines, used = lines + 1, 0
        used += units
        set_spans.extend(word)
    return Flow(lines, _joined(set_spans))


def _words(spans: Spans) -> Iterator[list[Span]]:
    """Pieces between which a line surely may break: each ends with its space. Hard breaks stand alone."""
    word: list[Span] = []
    last = ""
    for span in spans:
        if span.text == HARD_BREAK:
            if word:
                yield word
            yield [span]
            word, last = [], ""
            continue
        for piece in _PIECES.findall(span.text):
            if last == " " and word and _may_break(word, piece[0]):
                yield word
                word = []
            word.append(span.saying(piece))
            last = piece[-1]
    if word:
        yield word


def _may_break(word: Sequence[Span], after: str) -> bool:
    """Whether every reading of the line breaking rules (UAX 14) allows a break at the space before `after`."""
    before = "".join(span.text for span in word[-2:]).rstrip(" ")[-1:]
    return not (
        after in _NO_BREAK_BEFORE
        or before in _NO_BREAK_AFTER
        or _foreign_punctuation(after)
        or _foreign_punctuation(before)
    )


def _foreign_punctuation(character: str) -> bool:
    return bool(character) and not character.isascii() and unicodedata.category(character)[0] == "P"


def _broken_lines(word: Sequence[Span], used: int, room: int) -> tuple[int, int]:
    """Lines added, and room used on the last one, when a word breaks anywhere."""
    lines = 0
    for span in word:
        for character in span.text:
            units = _text_units(character, span.code)
            if used and used + units > room:
                lines, used = lines + 1, 0
            used += units
    return lines, used


def _breakable(text: str) -> str:
    marked = (c if unicodedata.combining(c) else MAY_BREAK_HERE + c for c in text)
    return "".join(marked) + MAY_BREAK_HERE


_SPACE_UNITS = character_width(" ")


def _text_units(text: str, code: bool) -> int:
    if code:
        return sum(max(INLINE_CODE_UNITS, _code_units(character)) for character in text)
    return sum(map(character_width, text))


def _code_units(character: str) -> int:
    return 0 if character.isascii() else character_width(character)


def _joined(spans: Sequence[Span]) -> Spans:
    joined: list[Span] = []
    for _, run in groupby(spans, key=Span.joins_as):
        first, *rest = run
        if first.text == HARD_BREAK:
            joined.extend((first, *rest))
        else:
            joined.append(first.saying("".join((first.text, *(span.text for span in rest)))))
    return tuple(joined)


def _span_nodes(spans: Spans) -> list[Node]:
    return [_span_node(span) for span in spans]


def _span_node(span: Span) -> Node:
    styles = {"bold": span.bold, "italic": span.italic, "struck": span.struck, "code": span.code}
    node: Node = {"text": span.text, **{name: True for name, on in styles.items() if on}}
    if span.href is not None:
        node["href"] = span.href
    return node
