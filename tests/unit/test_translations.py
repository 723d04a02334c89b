"""The catalogue and the code say the same, and each language is written in its own way."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract
from babel.messages.pofile import read_po
from jinja2 import Environment
from jinja2.ext import babel_extract

from gateway.pages.details import FORMS, STORED, in_words
from gateway.pages.language import (
    ENGLISH,
    Language,
    exact_sats,
    number,
    preferred,
    read_languages,
    sats,
    speaking,
    utc,
)

ROOT = Path(__file__).resolve().parents[2]
LOCALES = ROOT / "templates" / "locale"
LANGUAGES = read_languages(LOCALES)
GERMAN = LANGUAGES["de"]

PYTHON_KEYWORDS = {**DEFAULT_KEYWORDS, "ProblemType": (3,)}
REFUSALS = {"Problem": (2,), "BadAnswer": (1,), "Forbidden": (1,), "Unreachable": (1,)}
"""What other parts refuse with, when it is one constant sentence."""
REFUSING = ("refunds", "jobs", "sessions", "identity/login.py", "api/jobs.py", "outgoing.py", "pages")
JINJA_OPTIONS = {"trimmed": "true", "newstyle_gettext": "true", "trim_blocks": "true", "lstrip_blocks": "true"}


def python_files(*rooms: str) -> list[Path]:
    found: list[Path] = []
    for room in rooms:
        path = ROOT / "gateway" / room
        found += [path] if path.suffix else sorted(path.rglob("*.py"))
    return [path for path in found if "operator" not in path.parts and path.name != "docs.py"]


def templates() -> list[Path]:
    return [path for path in sorted((ROOT / "templates").glob("*.html")) if path.name != "docs.html"]


def in_file(path: Path, method: object, keywords: object, options: object = None) -> Iterable[tuple[object, object]]:
    with path.open("rb") as file:
        for _, message, _, context in extract(method, file, keywords, (), options):  # type: ignore[arg-type]
            yield message, context


def used() -> Catalog:
    """Every text that the public pages can say."""
    catalogue = Catalog()
    found = [one for path in templates() for one in in_file(path, babel_extract, DEFAULT_KEYWORDS, JINJA_OPTIONS)]
    for path in [*python_files("pages"), ROOT / "gateway" / "problems.py"]:
        found += in_file(path, "python", PYTHON_KEYWORDS)
    for path in python_files(*REFUSING):
        found += in_file(path, "python", REFUSALS)
    for message, context in found:
        catalogue.add(message, context=context)  # type: ignore[arg-type]
    return catalogue


def translated(language: str) -> Catalog:
    with (LOCALES / f"{language}.po").open("rb") as file:
        return read_po(file, locale=language, abort_invalid=True)


def key_of(message: Message) -> tuple[object, object]:
    return message.context, message.id if isinstance(message.id, str) else tuple(message.id)


def keys(catalogue: Catalog) -> set[tuple[object, object]]:
    return {key_of(message) for message in catalogue if message.id}


def forms(text: object) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text)  # type: ignore[arg-type]


def places(text: str) -> set[str]:
    return set(re.findall(r"%\(\w+\)s|\{\w+\}|<[^>]*>", text))


@pytest.fixture(scope="module")
def german() -> Catalog:
    return translated("de")


def test_the_extractors_see_templates_code_plurals_and_refusals() -> None:
    found = keys(used())
    assert (None, "Work for sats") in found
    assert (None, "Pay %(sats)s to start") in found
    assert (None, ("%(number)s sat", "%(number)s sats")) in found
    assert (None, "There is no such job") in found
    assert (None, "Make a new invoice and give that. Your refund waits.") in found
    assert ("tier", "none") in found
    assert len(found) > 250


def test_every_text_is_translated(german: Catalog) -> None:
    """A new text needs its German in templates/locale/de.po."""
    assert keys(used()) - keys(german) == set()


def test_no_translation_is_stale(german: Catalog) -> None:
    assert keys(german) - keys(used()) == set()
    assert not german.obsolete


def test_no_translation_is_empty_or_doubtful(german: Catalog) -> None:
    for message in german:
        if message.id:
            assert all(forms(message.string)), message.id
            assert not message.fuzzy, message.id


def test_the_places_agree(german: Catalog) -> None:
    """A place that a translation forgets would hide an amount; one that it invents would fail."""
    for message in german:
        if message.id:
            one, many = forms(message.id)[0], forms(message.id)[-1]
            for count, text in enumerate(forms(message.string)):
                assert places(text) == places(many if count else one), message.id


def test_the_plurals_are_complete(german: Catalog) -> None:
    assert german.num_plurals == 2
    for message in german:
        if message.pluralizable:
            assert len(forms(message.string)) == german.num_plurals, message.id


def test_the_catalogue_is_in_order(german: Catalog) -> None:
    """By its English, so that two changes seldom meet."""
    ids = [forms(message.id)[0] for message in german if message.id]
    assert ids == sorted(ids)


@pytest.mark.parametrize(
    ("accepted", "code"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT, de;q=0.9, en;q=0.8", "de"),
        ("DE", "de"),
        ("en, de", "en"),
        ("fr, de;q=0.5, en;q=0.1", "de"),
        ("en;q=0.2, de;q=0.7", "de"),
        ("de;q=0, en", "en"),
        ("de;q=0", "en"),
        ("fr, it", "en"),
        ("*", "en"),
        ("fr, *;q=0.5", "en"),
        ("*;q=0.1, de;q=0.3", "de"),
        (" de ; q=0.4 , en ; q=0.3", "de"),
        ("de;q=2, en;q=0.1", "en"),
        ("de;q=nan", "en"),
        ("de;q=x, en;q=0.1", "en"),
        ("de;level=1", "en"),
        ("den", "en"),
        (",,;;q=,-", "en"),
        ("de\x00", "en"),
        ("x" * 8000, "en"),
    ],
)
def test_what_a_browser_accepts(accepted: str, code: str) -> None:
    assert preferred(accepted, LANGUAGES).code == code


def test_no_catalogue_is_english_alone(tmp_path: Path) -> None:
    assert read_languages(tmp_path) == {"en": ENGLISH}


def test_a_language_is_added_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "ar.po").write_text('msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n', "utf-8")
    arabic = read_languages(tmp_path)["ar"]
    assert (arabic.direction, arabic.name) == ("rtl", "العربية")
    with speaking(arabic):
        assert (sats(1), sats(70)) == ("\u20681 sat\u2069", "\u206870 sats\u2069")


def test_languages_name_themselves() -> None:
    assert [(one.code, one.name, one.direction) for one in LANGUAGES.values()] == [
        ("en", "English", "ltr"),
        ("de", "Deutsch", "ltr"),
    ]


@pytest.mark.parametrize(
    ("language", "amount", "text"),
    [
        (ENGLISH, 0, "0 sats"),
        (ENGLISH, 1, "1 sat"),
        (ENGLISH, 12_000, "12,000 sats"),
        (GERMAN, 0, "0 sats"),
        (GERMAN, 1, "1 sat"),
        (GERMAN, 1_000, "1.000 sats"),
        (GERMAN, 2_100_000_000_000_000, "2.100.000.000.000.000 sats"),
    ],
)
def test_sats(language: Language, amount: int, text: str) -> None:
    with speaking(language):
        assert sats(amount) == text


def test_numbers_and_what_is_below_a_sat() -> None:
    assert (number(-1_234_567), exact_sats(1_234_000), exact_sats(1_234_050)) == ("-1,234,567", "1,234", "1,234.050")
    with speaking(GERMAN):
        assert (number(1_234_567), exact_sats(1_234_000), exact_sats(1_234_050)) == ("1.234.567", "1.234", "1.234,050")


def test_dates_say_utc() -> None:
    moment = datetime(2025, 5, 3, 4, 5, tzinfo=UTC)
    assert utc(moment) == "3 May 2025, 04:05 UTC"
    with speaking(GERMAN):
        assert utc(moment) == "3. Mai 2025, 04:05 Uhr UTC"


def test_a_language_ends_with_its_request() -> None:
    with pytest.raises(LookupError), speaking(GERMAN):
        raise LookupError
    assert sats(1000) == "1,000 sats"


ANYBODYS = {"boltworks", "API", "OpenAPI", "curl", "sats", "lnbc", "required"}
"""Names, what is written alike in every language, and an attribute that a macro gives."""
NOT_SHOWN = re.compile(
    r'<pre class="text mono" id="(?:curl|curl-v1|openai)".*?</pre>|\{% block width %\}.*?\{% endblock %\}', re.DOTALL
)
"""Programs, and a block that fills a class."""
SPOKEN_ATTRIBUTES = re.compile(r'(?:aria-label|title|alt|placeholder|data-inplace|data-busy)="([^"]*)"')


def bare_words(source: str) -> set[str]:
    """Words of a template that are shown, or read out, and stand outside of the catalogue's marks."""
    lexed = Environment(autoescape=True).lex(NOT_SHOWN.sub("", source))
    tokens = [(kind, text) for _, kind, text in lexed if kind != "whitespace"]
    outside: list[str] = []
    marked = False
    for (kind, text), (_, word) in pairwise([*tokens, ("", "")]):
        if kind == "block_begin":
            marked = word == "trans" or (marked and word != "endtrans")
        if kind == "data":
            outside.append("" if marked else text)
        elif kind.endswith("_begin"):
            outside.append(" ")
    html = "".join(outside)
    shown = re.sub(r'<[^>]*>|[\w-]+="[^"]*"|&\w+;', " ", html) + " ".join(SPOKEN_ATTRIBUTES.findall(html))
    return set(re.findall(r"[A-Za-z]{3,}", shown)) - ANYBODYS


def test_bare_words_are_seen() -> None:
    source = '<p title="Hello there">{{ _("Known") }} Bare {% trans x=1 %}Known {{ x }} too{% endtrans %}</p>'
    assert bare_words(source) == {"Hello", "there", "Bare"}


@pytest.mark.parametrize("template", templates(), ids=lambda path: path.name)
def test_no_template_says_a_word_outside_of_the_catalogue(template: Path) -> None:
    """Wrap it in `_()` or `{% trans %}`, and give its German."""
    assert bare_words(template.read_text("utf-8")) == set()


def test_no_text_hides_in_an_f_string() -> None:
    """There the extractor of Python 3.11 does not see it."""
    hidden = [
        f"{path.name}:{node.lineno}"
        for path in python_files("pages")
        for outer in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(outer, ast.JoinedStr)
        for node in ast.walk(outer)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PYTHON_KEYWORDS
    ]
    assert hidden == []


QUOTED = ("refunds", "jobs", "sessions", "catalogue", "api/body.py", "api/jobs.py", "outgoing.py", "pages")
PUT_TOGETHER = (
    "This must be %(one)s or %(other)s.",
    "This is not known here; known are %(known)s.",
    "This needs exactly one of %(names)s.",
    "This needs at least one of %(names)s.",
)
"""Forms that no single string in the code has."""


@pytest.fixture(scope="module")
def said_in_code() -> set[str]:
    """Every text of the parts that pages quote, its places as `%s`."""
    found: set[str] = set()
    for path in python_files(*QUOTED):
        if path.name == "details.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(str(part.value) if isinstance(part, ast.Constant) else "%s" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


@pytest.mark.parametrize("form", [form for form in (*FORMS, *STORED) if form not in PUT_TOGETHER])
def test_each_form_is_one_that_code_says(form: str, said_in_code: set[str]) -> None:
    """Reworded there, it would be shown in English. What is wrong with an input gets its `This` and its dot later."""
    said = re.sub(r"%\(\w+\)s", "%s", form)
    bare = said.removeprefix("This ").removesuffix(".")
    assert {said, bare, bare[:1].lower() + bare[1:]} & said_in_code or any(said in text for text in said_in_code)


@pytest.mark.parametrize(
    ("said", "english", "shown"),
    [
        (
            "Refunds begin at 2000 sats; 71 are owed. They stay on account here, as yours.",
            "Refunds begin at 2,000 sats; 71 are owed. They stay on account here, as yours.",
            "Erstattungen beginnen bei 2.000 sats; 71 stehen Ihnen zu. Sie bleiben hier als Ihr Guthaben stehen.",
        ),
        ("This must have at most 2000 characters.", None, "Hier dürfen höchstens 2000 Zeichen stehen."),
        ("This must be a whole number.", None, "Hier muss eine ganze Zahl stehen."),
        ("This must be true or false.", None, "Hier muss true oder false stehen."),
        ("It says: out to lunch", None, "Die Antwort lautet: out to lunch"),
        (
            "It gave no answer. Your refund waits.",
            None,
            "It gave no answer. Ihre Erstattung wartet.",
        ),
        ("The payment failed.", None, "Die Zahlung ist fehlgeschlagen."),
        ("A worker's own words", None, "A worker's own words"),
        ("100 % of %(what)s", None, "100 % of %(what)s"),
        ("", None, ""),
        ("It is " + "x" * 10_000 + ".", None, "It is " + "x" * 10_000 + "."),
    ],
)
def test_what_other_parts_say(said: str, english: str | None, shown: str) -> None:
    assert in_words(said) == (english or said)
    with speaking(GERMAN):
        assert in_words(said) == shown
