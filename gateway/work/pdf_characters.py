"""Which characters the embedded fonts can print, and how wide each may be. Pure; integers only.

Taken from the fonts inside the `typst` package (Libertinus Serif, then DejaVu Sans Mono and New Computer
Modern as fallbacks): for each character the widest of upright, bold, italic and bold italic.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

UNITS_PER_EM = 20
"""Widths are counted in twentieths of the font size, rounded up."""

_DIGITS = {digit: value for value, digit in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")}
_WIDTH_ROWS = {
    0x20: "568BBDF5779B5857BBBBBBBBBB66BCB9KFEFFDBFH8AFCIFFDFFBEFELFDD878BA8CBACA8BD77D7JDCCC998DBGCCA757A",
    0xA0: "56BBAB5A9E8CC8E86B777CD7B78CEEE9FFFFFFKFDDDD8888FFFFFFFBFFFFFEDDCCCCCCFAAAAA7777CDCCCCCBCDDDDCCC",
    0x100: (
        "FCFCFCFAFAFAFAFCFCDADADADADAFBFBFBFBHDHD8787878787FDA7FDDC7C7C8C8C7FDFDFDEG"
        "CFCFCFCJHF9F9F9B9B9B9B9E8E8E8FDFDFDFDFDFDLGDCDDADADA7"
    ),
    0x370: (
        "....54IF..DEEEDD....59F6EG8.F.EF8FECEDDHF8FEIFDFGD.EEDFFGF8DE9D8BECDB9ADC8C"
        "BCBACCC9C9BECEG8BCBG.CDILGDKDFDKDGDDDJI..............BDDDIDDDDHJEDHHH"
    ),
    0x400: (
        "GDKCFB88ALNIFJGHFEECFDLCHHFFIHFGDFEEFFGFOOHKDDKFCBBABAH9DDCCFDCDCAHCGCDDJJD"
        "HBAHCDADAD9777HIDCDCDOJJHQHOIVOOKWQDBIFIDJFJF....OJOJ...0........JCGDFEEDHD"
        "OPFDHDGDGDMFJDMHPIICHDGJIFIFIDOHIDIDJDKFKFDOLJD..JDJDID..DIDIDKFGDGDGDOLFDD"
        "DJDJDIDIDIDHDGDGDGDIDEDNH"
    ),
    0x2010: "889BFJ6A66669999CC8859H5",
}
_WIDTHS = {
    first + at: _DIGITS[digit] for first, row in _WIDTH_ROWS.items() for at, digit in enumerate(row) if digit != "."
}
_WIDEST = 42
"""No printable character is wider: the parenthesised numbers are 2.04 em."""

_PRINTABLE_RANGES = (
    (0x20, 0x7E),
    (0xA0, 0xAC),
    (0xAE, 0x34E),
    (0x350, 0x36F),
    (0x374, 0x377),
    (0x37A, 0x37F),
    (0x384, 0x38A),
    (0x38C, 0x38C),
    (0x38E, 0x3A1),
    (0x3A3, 0x3CE),
    (0x3D0, 0x3E1),
    (0x3F0, 0x477),
    (0x48C, 0x4C4),
    (0x4C7, 0x4CC),
    (0x4CF, 0x4F9),
    (0x531, 0x556),
    (0x559, 0x55F),
    (0x561, 0x587),
    (0x589, 0x58A),
    (0x10D0, 0x10FC),
    (0x1E00, 0x1F15),
    (0x1F18, 0x1F1D),
    (0x1F20, 0x1F45),
    (0x1F48, 0x1F4D),
    (0x1F50, 0x1F57),
    (0x1F59, 0x1F59),
    (0x1F5B, 0x1F5B),
    (0x1F5D, 0x1F5D),
    (0x1F5F, 0x1F7D),
    (0x1F80, 0x1FB4),
    (0x1FB6, 0x1FC4),
    (0x1FC6, 0x1FD3),
    (0x1FD6, 0x1FDB),
    (0x1FDD, 0x1FEF),
    (0x1FF2, 0x1FF4),
    (0x1FF6, 0x1FFE),
    (0x2000, 0x200A),
    (0x2010, 0x2027),
    (0x202F, 0x2037),
    (0x2039, 0x203F),
    (0x2042, 0x2042),
    (0x2044, 0x204B),
    (0x204F, 0x204F),
    (0x2070, 0x2071),
    (0x2074, 0x208E),
    (0x2090, 0x209C),
    (0x20A0, 0x20B5),
    (0x20B8, 0x20BA),
    (0x20BD, 0x20BD),
    (0x20BF, 0x20BF),
    (0x2100, 0x2103),
    (0x2113, 0x2113),
    (0x2115, 0x2117),
    (0x2122, 0x2122),
    (0x2126, 0x2127),
    (0x212A, 0x212B),
    (0x212E, 0x212E),
    (0x2135, 0x2139),
    (0x2153, 0x2184),
    (0x2190, 0x222E),
    (0x2234, 0x223D),
    (0x2241, 0x226B),
    (0x226D, 0x228B),
    (0x228D, 0x22A6),
    (0x22C2, 0x22C6),
    (0x22EE, 0x22EF),
    (0x2300, 0x2306),
    (0x2308, 0x2315),
    (0x2318, 0x2319),
    (0x2325, 0x232B),
    (0x23CE, 0x23CF),
    (0x2423, 0x2423),
    (0x2460, 0x2487),
    (0x24B6, 0x262F),
    (0x2638, 0x268B),
    (0x2690, 0x269C),
    (0x26A0, 0x26A7),
    (0x2701, 0x2704),
    (0x2706, 0x2709),
    (0x270C, 0x2727),
    (0x2729, 0x274B),
    (0x274D, 0x274D),
    (0x2756, 0x2756),
    (0x2758, 0x275E),
    (0x2761, 0x277F),
    (0x2794, 0x2794),
    (0x2798, 0x27AF),
    (0x27B1, 0x27BE),
    (0x27E6, 0x27EB),
    (0x27F5, 0x27F7),
    (0xFB01, 0xFB02),
    (0xFFFD, 0xFFFD),
)
_PRINTABLE = frozenset(code for first, last in _PRINTABLE_RANGES for code in range(first, last + 1))
_INVISIBLE = frozenset("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufe0e\ufe0f\ufeff")
_WHITE = frozenset("\t\n\r\u2028\u2029")

REPLACEMENT = "\ufffd"


def first_unprintable(text: str) -> int | None:
    """The index of the first character that no embedded font can print; None when there is none."""
    for index, character in enumerate(text):
        if ord(character) not in _PRINTABLE and character not in _WHITE and character not in _INVISIBLE:
            return index
    return None


def printable(text: str) -> str:
    """The text as it is printed: white space becomes plain spaces, invisible characters go away, what no
    font knows (it can come from an entity) becomes U+FFFD."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_printed(character) for character in text)


def _printed(character: str) -> str:
    if character in _WHITE:
        return " "
    if character in _INVISIBLE:
        return ""
    return character if ord(character) in _PRINTABLE else REPLACEMENT


@lru_cache(maxsize=4096)
def character_width(character: str) -> int:
    """The most that a character may take, in `1 / UNITS_PER_EM` of the font size."""
    width = _WIDTHS.get(ord(character))
    if width is not None:
        return width
    if unicodedata.combining(character):
        return 13
    return _WIDEST if 0x2460 <= ord(character) <= 0x24FF else 32


def monospace_cells(character: str) -> int:
    """The most cells (0.602 em) that a character takes in a code block."""
    if character.isascii() or 0xA0 <= ord(character) <= 0x4F9:
        return 1
    return -(-character_width(character) // 12)
