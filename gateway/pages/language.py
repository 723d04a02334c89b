"""The language of the page that is being made: its texts, its numbers, its dates. English, unless a request chose."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from gettext import GNUTranslations, NullTranslations
from pathlib import Path

from babel import Locale
from babel.dates import format_datetime
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal


@dataclass(frozen=True, slots=True)
class Language:
    """`locale` knows how numbers and dates are written, and which way the text runs."""

    code: str
    locale: Locale
    texts: NullTranslations

    @property
    def name(self) -> str:
        """Its own name for itself: `Deutsch`."""
        name = self.locale.get_display_name() or self.code
        return name[:1].upper() + name[1:]

    @property
    def direction(self) -> str:
        """`ltr` or `rtl`."""
        return self.locale.text_direction


ENGLISH = Language("en", Locale("en"), NullTranslations())
Languages = Mapping[str, Language]

_current: ContextVar[Language] = ContextVar("language", default=ENGLISH)


def read_languages(folder: Path) -> Languages:
    """English, and each `<code>.po` of the folder. Raises PoFileError for a file that is no catalogue."""
    found = {ENGLISH.code: ENGLISH}
    for path in sorted(folder.glob("*.po")):
        with path.open("rb") as file:
            catalogue = read_po(file, locale=path.stem, abort_invalid=True)
        compiled = io.BytesIO()
        write_mo(compiled, catalogue)
        compiled.seek(0)
        found[path.stem] = Language(path.stem, Locale(path.stem), GNUTranslations(compiled))
    return found


@contextmanager
def speaking(language: Language) -> Iterator[None]:
    """What is made inside is made in this language."""
    token = _current.set(language)
    try:
        yield
    finally:
        _current.reset(token)


def spoken() -> Language:
    return _current.get()


def preferred(accepted: str, known: Languages) -> Language:
    """What an `Accept-Language` asks for, the most wanted first (RFC 9110); English for what nobody knows. Pure."""
    wanted = [_range(part) for part in accepted.split(",")]
    for _, tag in sorted((one for one in wanted if one[0] > 0), key=lambda one: -one[0]):
        if tag == "*":
            return ENGLISH
        if language := known.get(tag.partition("-")[0]):
            return language
    return ENGLISH


def _range(text: str) -> tuple[float, str]:
    """Its weight and its tag, in small letters; a weight that is none counts as 0."""
    tag, _, parameter = text.partition(";")
    name, _, value = parameter.partition("=")
    tag = tag.strip().lower()
    if not parameter.strip():
        return 1.0, tag
    try:
        weight = float(value)
    except ValueError:
        return 0.0, tag
    return (weight if name.strip().lower() == "q" and 0 <= weight <= 1 else 0.0), tag


def gettext(message: str, **values: object) -> str:
    """The sentence in the page's language. Its places are named, `%(sats)s`, when values are given."""
    text = _current.get().texts.gettext(message) if message else ""
    return text % values if values else text


def ngettext(one: str, many: str, count: int, **values: object) -> str:
    """The form that this count has in the page's language."""
    text = _current.get().texts.ngettext(one, many, count)
    return text % values if values else text


def pgettext(context: str, message: str) -> str:
    """A word that needs to be told apart from the same word elsewhere."""
    return _current.get().texts.pgettext(context, message)


def number(amount: int) -> str:
    """`12,000`; in German `12.000`."""
    return format_decimal(amount, locale=_current.get().locale)


def exact_sats(amount_msat: int) -> str:
    """Sats with what is below one, if anything is: `1,234.500`."""
    if amount_msat % 1000 == 0:
        return number(amount_msat // 1000)
    return format_decimal(Decimal(amount_msat) / 1000, format="#,##0.000", locale=_current.get().locale)


def sats(amount: int) -> str:
    """`1 sat`, `12,000 sats`."""
    return isolated(ngettext("%(number)s sat", "%(number)s sats", amount, number=number(amount)))


def utc(moment: datetime) -> str:
    """`22 Nov 2025, 14:05 UTC`. How a date is written is a text of the catalogue, in CLDR's letters."""
    form = gettext("d MMM y, HH:mm 'UTC'")
    return isolated(format_datetime(moment.astimezone(UTC), form, locale=_current.get().locale))


def isolated(text: str) -> str:
    """In a text from right to left, `100 sats` keeps its own order."""
    return f"\u2068{text}\u2069" if _current.get().direction == "rtl" else text
