"""Markdown to a plain tree of blocks: what the PDF will say, before any layout. Pure.

CommonMark with tables and strikethrough. HTML is printed as text, an image as its description, and only
http(s) and mailto links stay links: nothing in a document can load, run or include anything.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple, TypeAlias

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock, blockquote, list_block, table
from markdown_it.token import Token

from gateway.work.pdf_characters import printable

MAX_NESTING = 5
"""Lists and quotes inside each other; what is deeper is set at the deepest level."""
DEEPEST_LEVEL = 12
"""The parser drops what lies below its own limit (20): here markers of deeper lists and quotes stay text."""
MAX_TABLE_COLUMNS = 12
MAX_TABLE_CELLS = 6000
MAX_LINK_CHARACTERS = 2000
MAX_LANGUAGE_CHARACTERS = 20
MAX_FILENAME_CHARACTERS = 60

HARD_BREAK = "\n"
"""A span with this text is a line break; no other span contains it."""

Alignment = Literal["left", "center", "right"]


class Span(NamedTuple):
    """A run of text in one style."""

    text: str
    bold: bool = False
    italic: bool = False
    struck: bool = False
    code: bool = False
    href: str | None = None

    def saying(self, text: str) -> Span:
        """Another text in the same style."""
        return Span(text, *self[1:])

    def joins_as(self) -> tuple[object, ...]:
        """Neighbours that are equal in this may become one span; a line break joins with nothing visible."""
        return self if self.text == HARD_BREAK else self[1:]


Spans: TypeAlias = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """`tight`: an item of a list without blank lines between its items."""

    spans: Spans
    tight: bool = False


@dataclass(frozen=True, slots=True)
class Heading:
    level: int
    spans: Spans


@dataclass(frozen=True, slots=True)
class CodeBlock:
    lines: tuple[str, ...]
    language: str


@dataclass(frozen=True, slots=True)
class Rule:
    pass


@dataclass(frozen=True, slots=True)
class Quote:
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class ItemList:
    """`start` is the first number, None for bullets."""

    start: int | None
    tight: bool
    items: tuple[tuple[Block, ...], ...]


@dataclass(frozen=True, slots=True)
class Table:
    alignments: tuple[Alignment, ...]
    header: tuple[Spans, ...]
    rows: tuple[tuple[Spans, ...], ...]


Block: TypeAlias = Paragraph | Heading | CodeBlock | Rule | Quote | ItemList | Table


@dataclass(frozen=True, slots=True)
class Document:
    title: str
    blocks: tuple[Block, ...]


def read_document(input: Mapping[str, object]) -> Document:
    """The document of a checked `pdf` input: `markdown`, and `title` when given."""
    title = " ".join(printable(str(input.get("title") or "")).split())
    tokens = iter(_PARSER.parse(str(input["markdown"])))
    return Document(title, tuple(_blocks(tokens, None, 0)))


def filename_of(document: Document) -> str:
    """A plain ASCII file name from the title, or from the first heading."""
    words = document.title
    if not words:
        headings = (block for block in document.blocks if isinstance(block, Heading))
        words = next(("".join(span.text for span in heading.spans) for heading in headings), "")
    ascii_words = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_words)[:MAX_FILENAME_CHARACTERS].strip("-")
    return f"{slug or 'document'}.pdf"


def _bounded_table(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """The table rule, but a table that could blow up into countless cells stays text."""
    if start_line + 2 > end_line:
        return False
    ruler = state.src[state.bMarks[start_line + 1] : state.eMarks[start_line + 1]]
    columns = ruler.count("|") + 1
    if columns > MAX_TABLE_COLUMNS + 2 or columns * (end_line - start_line) > MAX_TABLE_CELLS:
        return False
    return table(state, start_line, end_line, silent)


def _bounded_list(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    return state.level <= DEEPEST_LEVEL and list_block(state, start_line, end_line, silent)


def _bounded_quote(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    return state.level <= DEEPEST_LEVEL and blockquote(state, start_line, end_line, silent)


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    rules = parser.block.ruler
    interrupted = ["paragraph", "reference"]
    rules.at("table", _bounded_table, {"alt": interrupted})
    rules.at("list", _bounded_list, {"alt": [*interrupted, "blockquote"]})
    rules.at("blockquote", _bounded_quote, {"alt": [*interrupted, "blockquote", "list"]})
    return parser


_PARSER = _parser()


def _blocks(tokens: Iterator[Token], until: str | None, depth: int) -> Iterator[Block]:
    """The blocks up to the closing token `until`; those without anything to show are left out."""
    for token in tokens:
        if token.type == until:
            return
        match token.type:
            case "paragraph_open":
                if spans := _inline_of(tokens):
                    yield Paragraph(spans, token.hidden)
            case "heading_open":
                if spans := _inline_of(tokens):
                    yield Heading(int(token.tag[1:]), spans)
            case "fence" | "code_block":
                yield _code_block(token)
            case "hr":
                yield Rule()
            case "blockquote_open":
                inner = tuple(_blocks(tokens, "blockquote_close", depth + 1))
                yield from (Quote(inner),) if inner and depth < MAX_NESTING else inner
            case "bullet_list_open" | "ordered_list_open":
                yield from _list(token, tokens, depth)
            case "table_open":
                yield _table(tokens)


def _list(opening: Token, tokens: Iterator[Token], depth: int) -> Iterator[Block]:
    closing = opening.type.replace("_open", "_close")
    items: list[tuple[Block, ...]] = []
    for token in tokens:
        if token.type == closing:
            break
        if token.type == "list_item_open":
            items.append(tuple(_blocks(tokens, "list_item_close", depth + 1)))
    if depth >= MAX_NESTING:
        yield from (block for item in items for block in item)
        return
    tight = all(block.tight for item in items for block in item if isinstance(block, Paragraph))
    start = int(opening.attrs.get("start", 1)) if opening.type == "ordered_list_open" else None
    yield ItemList(start, tight, tuple(items))


def _code_block(token: Token) -> CodeBlock:
    text = token.content.expandtabs(4).removesuffix("\n")
    language = token.info.strip().split(" ")[0].lower()[:MAX_LANGUAGE_CHARACTERS]
    known_form = all(character.isascii() and (character.isalnum() or character in "+#-_") for character in language)
    return CodeBlock(tuple(printable(line) for line in text.split("\n")), language if known_form else "")


def _table(tokens: Iterator[Token]) -> Table:
    alignments: list[Alignment] = []
    rows: list[tuple[Spans, ...]] = []
    cells: list[Spans] = []
    for token in tokens:
        match token.type:
            case "table_close":
                break
            case "th_open" | "td_open":
                if token.type == "th_open":
                    alignments.append(_alignment(token))
                cells.append(_inline_of(tokens))
            case "tr_close":
                rows.append(tuple(cells))
                cells = []
    return Table(tuple(alignments), rows[0], tuple(rows[1:]))


def _alignment(token: Token) -> Alignment:
    style = str(token.attrs.get("style", ""))
    return "center" if "center" in style else "right" if "right" in style else "left"


def _inline_of(tokens: Iterator[Token]) -> Spans:
    """The text of the one inline token that follows; its closing token is taken as well."""
    spans: list[Span] = []
    for token in tokens:
        if token.nesting < 0:
            break
        if token.type == "inline":
            spans.extend(_spans(token.children or []))
    return _tidied(spans)


_STYLES = {"strong": "bold", "em": "italic", "s": "struck"}


def _spans(tokens: list[Token]) -> Iterator[Span]:
    open_styles = dict.fromkeys(_STYLES.values(), 0)
    style = Span("")
    for token in tokens:
        kind, _, edge = token.type.rpartition("_")
        if kind in _STYLES and edge in ("open", "close"):
            open_styles[_STYLES[kind]] += token.nesting
            bold, italic, struck = (count > 0 for count in open_styles.values())
            style = style._replace(bold=bold, italic=italic, struck=struck)
            continue
        match token.type:
            case "link_open":
                style = style._replace(href=_safe_link(str(token.attrs.get("href", ""))))
            case "link_close":
                style = style._replace(href=None)
            case "hardbreak":
                yield Span(HARD_BREAK)
            case "softbreak":
                yield style.saying(" ")
            case "code_inline":
                yield style._replace(text=printable(token.content), code=True)
            case "image":
                yield style._replace(text=f"[{printable(token.content) or 'image'}]", italic=True)
            case _:
                yield style.saying(printable(token.content))


def _safe_link(href: str) -> str | None:
    allowed = href.startswith(("http://", "https://", "mailto:"))
    return href if allowed and len(href) <= MAX_LINK_CHARACTERS and href.isascii() else None


def _tidied(spans: list[Span]) -> Spans:
    """Neighbours of one style joined, runs of spaces made one, none at either end of a line."""
    joined: list[Span] = []
    for _, run in groupby(spans, key=Span.joins_as):
        first, *rest = run
        if first.text == HARD_BREAK:
            joined.extend((first, *rest))
            continue
        text = re.sub(" {2,}", " ", "".join((first.text, *(span.text for span in rest))))
        if not joined or joined[-1].text.endswith((" ", HARD_BREAK)):
            text = text.lstrip(" ")
        if text:
            joined.append(first.saying(text))
    while joined and not joined[-1].text.strip(" \n"):
        joined.pop()
    return tuple(joined)
