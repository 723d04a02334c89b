"""The public pages in German, and how a visitor comes to a language. Machines are always answered in English."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from babel.messages.pofile import read_po

from gateway.api.models import EvaluationView
from gateway.pages.language import read_languages, speaking
from gateway.pages.session_words import story_of
from gateway.pages.story import story
from gateway.pages.words import one_line
from gateway.problems import ALL, Problem
from tests.web import free_tier
from tests.web.conftest import Web
from tests.web.test_pages import LOOKS, STATES, Browser, Page, job_view, new_session, pay, until
from tests.web.test_session_pages import session_view, settle
from tests.web.test_session_pages import until as session_until

CATALOGUE = Path(__file__).resolve().parents[2] / "templates" / "locale" / "de.po"
GERMAN = {"Accept_Language": "de-AT,de;q=0.9,en;q=0.5"}


@pytest_asyncio.fixture
async def browser(web: Web) -> AsyncIterator[Browser]:
    async with new_session() as session:
        yield Browser(session, web.url)


@pytest_asyncio.fixture
async def german(web: Web) -> AsyncIterator[Browser]:
    """One that chose German by the switch."""
    async with new_session() as session:
        browser = Browser(session, web.url)
        assert (await browser.get("/?lang=de")).status == 303
        yield browser


def english_sentences() -> list[str]:
    """Those that German does not share, long enough to be nobody's chance words."""
    with CATALOGUE.open("rb") as file:
        catalogue = read_po(file, locale="de")
    known = {message.id for message in catalogue if isinstance(message.id, str) and message.id != message.string}
    return [text for text in known if len(text) > 12 and "%(" not in text]


ENGLISH = english_sentences()


def is_german(page: Page) -> bool:
    """Marked as German, and not one of our English sentences is left on it."""
    left = [text for text in ENGLISH if text in page.text]
    assert left == [], page.text
    fragment = not page.text.lstrip().startswith("<!doctype")
    return page.headers["Content-Language"] == "de" and (fragment or '<html lang="de" dir="ltr">' in page.text)


# --- choosing ----------------------------------------------------------------------------------------------


async def test_without_a_word_it_is_english(browser: Browser) -> None:
    page = await browser.get("/")
    assert '<html lang="en" dir="ltr">' in page.text
    assert (page.headers["Content-Language"], "Work for sats" in page.text) == ("en", True)


async def test_the_browser_s_languages_count(browser: Browser) -> None:
    assert is_german(await browser.get("/", **GERMAN))
    other = await browser.get("/", Accept_Language="fr, en;q=0.9, de;q=0.8")
    assert "Work for sats" in other.text


async def test_the_switch_keeps_a_cookie_and_comes_back_to_the_same_page(browser: Browser) -> None:
    page = await browser.get("/?work=echo&lang=de")
    assert (page.status, page.headers["Location"]) == (303, "/?work=echo")
    cookie = page.cookies["boltworks_lang"]
    assert (cookie.value, cookie["path"], cookie["samesite"], bool(cookie["httponly"])) == ("de", "/", "Lax", True)
    assert int(cookie["max-age"]) > 300 * 86_400
    assert is_german(await browser.get("/?work=echo"))
    assert is_german(await browser.get("/find", Accept_Language="en"))


async def test_the_cookie_is_secure_behind_https(browser: Browser, web: Web) -> None:
    web.gateway.settings = web.gateway.settings.model_copy(update={"public_url": "https://pay.example"})
    assert (await browser.get("/?lang=de")).cookies["boltworks_lang"]["secure"]


async def test_the_footer_links_to_each_language(browser: Browser) -> None:
    page = (await browser.get("/?work=echo")).text
    assert '<a href="/?work=echo&lang=de" lang="de" hreflang="de">Deutsch</a>' in page
    assert '<a href="/?work=echo&lang=en" lang="en" hreflang="en" aria-current="true">English</a>' in page


async def test_and_back_to_english(german: Browser) -> None:
    assert (await german.get("/pool?lang=en")).headers["Location"] == "/pool"
    assert "The free pool" in (await german.get("/pool", **GERMAN)).text


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/?lang=de",
        "///evil.example/..?lang=de",
        "http://evil.example/?lang=de",
        "/\\evil.example?lang=de",
        "/%5Cevil.example?lang=de",
        "/%2F/evil.example?lang=de",
        "/nothing?to=//evil.example&lang=de&x=https://evil.example",
        "/?lang=de&lang=https://evil.example",
        "/?%0d%0aLocation:%20https://evil.example&lang=de",
    ],
)
async def test_the_switch_leads_nowhere_else(web: Web, path: str) -> None:
    status, location = await raw_get(web, path)
    assert status == 303
    assert re.match(r"/(?![/\\])", location), location
    assert "lang=" not in location
    assert "\n" not in location


async def raw_get(web: Web, target: str) -> tuple[int, str]:
    """Status and `Location` for a request line that no client library would write."""

    where = urlsplit(web.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        lines = (f"GET {target} HTTP/1.1", f"Host: {where.netloc}", "Accept: text/html", "Connection: close", "", "")
        writer.write("\r\n".join(lines).encode())
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode()
    finally:
        writer.close()
    found = re.search(r"^Location: (.*)\r$", head, re.MULTILINE)
    return int(head.split(" ", 2)[1]), found[1] if found else ""


@pytest.mark.parametrize(
    "value", ["", "xx", "DE", "de/../en", "../../etc/passwd", "de%00", "%F0%9F%87%A9", "en'--", "x" * 4000, "<b>"]
)
async def test_a_language_that_nobody_knows_is_not_heard(browser: Browser, value: str) -> None:
    page = await browser.get(f"/?lang={value}")
    assert (page.status, "boltworks_lang" in page.cookies) == (200, False)
    assert '<html lang="en" dir="ltr">' in page.text
    assert "lang=<b>" not in page.body.decode()
    hostile = await browser.get("/", Cookie="boltworks_lang=../../x", Accept_Language="de")
    assert is_german(hostile)


async def test_only_a_link_switches(browser: Browser) -> None:
    """A form's answer is a page as ever; no form sets the cookie."""
    page = await browser.post("/estimate?lang=de", {"work": "echo", "input": "{}"})
    assert (page.status, "boltworks_lang" in page.cookies) == (200, False)


async def test_machines_are_answered_in_english(web: Web) -> None:
    headers = {"Accept-Language": "de", "Cookie": "boltworks_lang=de"}
    for path in ("/api/jobs/no-such-job-is-here-at-all-12345", "/api/nothing?lang=de"):
        async with web.http.get(web.url + path, headers=headers) as response:
            problem = await response.json(content_type=None)
            assert problem["title"].startswith("There is no")
            assert "Set-Cookie" not in response.headers


async def test_the_operator_s_pages_stay_english(german: Browser) -> None:
    page = await german.get("/operator/login")
    assert '<html lang="en">' in page.text
    assert "Zum Inhalt" not in page.text


async def test_the_docs_are_marked_as_english_inside_a_german_frame(german: Browser) -> None:
    page = await german.get("/docs")
    assert '<html lang="de" dir="ltr">' in page.text
    assert re.search(r'<main id="content"[^>]* lang="en"', page.text)


async def test_two_visitors_at_once_do_not_share_a_language(german: Browser, browser: Browser) -> None:

    pages = await asyncio.gather(*(who.get("/") for who in (german, browser) * 10))
    for place, page in enumerate(pages):
        assert ("Arbeit für sats" in page.text) == (place % 2 == 0)


# --- the pages ---------------------------------------------------------------------------------------------


async def test_the_start_page_and_its_offer(german: Browser) -> None:
    start = await german.get("/")
    assert is_german(start)
    assert "Arbeit für sats" in start.text
    offer = await german.post("/estimate", {"work": "echo", "input": "{}"})
    assert is_german(offer)
    for words in ("Höchstens 100 sats", "Sie zahlen", "Für 100 sats kaufen"):
        assert words in offer.text


async def test_an_input_that_does_not_fit(german: Browser) -> None:
    page = await german.post("/estimate", {"work": "echo", "input": "[1"})
    assert page.status == 422
    assert is_german(page)
    assert "Das ist kein JSON, das wir lesen können." in page.text
    assert "Es wurde nichts gekauft." in page.text


async def test_a_price_that_moved(german: Browser) -> None:
    form = await german.offer()
    page = await german.post("/jobs", form | {"agreed": "1"})
    assert is_german(page)
    assert "Der Preis für Ihre jetzige Eingabe ist 100 sats." in page.text


async def test_a_job_through_its_life(german: Browser, web: Web) -> None:
    path = await german.bought(text='{"cost": 30}')
    waiting = await german.get(path)
    assert is_german(waiting)
    assert "Zahlen Sie 100 sats, um zu beginnen" in waiting.text
    assert re.search(r"Zahlen Sie vor: <time [^>]*>\d+\. \S+ \d{4}, \d\d:\d\d Uhr UTC</time>\.", waiting.text)
    assert 'data-left="Noch {time}."' in waiting.text
    await pay(web, path)
    done = await until(german, path, "Fertig, und 70 sats liegen für Sie zum Abholen bereit")
    assert is_german(done)
    assert "Es hat Sie 30 sats gekostet. Der Rest, 70 sats, liegt hier für Sie bereit." in done.text
    fragment = await german.get(f"{path}/fragment")
    assert is_german(fragment)
    wrong = await german.post(f"{path}/refund", {"destination": web.node.foreign_invoice(71_000)})
    assert is_german(wrong)
    assert "Die Rechnung verlangt 71 sats, Ihnen stehen 70 sats zu." in wrong.text
    await german.post(f"{path}/refund", {"destination": web.node.foreign_invoice(70_000)})
    paid = await until(german, path, "Fertig, und 70 sats gingen an Sie zurück")
    assert is_german(paid)
    assert "Der Rest, 70 sats, wurde an Ihre Wallet gesendet." in paid.text


async def test_a_job_that_failed_and_one_that_was_cancelled(german: Browser, web: Web) -> None:
    path = await german.bought(text='{"fail": "paper jam"}')
    await pay(web, path)
    failed = await until(german, path, "Die Arbeit ist fehlgeschlagen")
    assert is_german(failed)
    assert "Sie zahlen nichts. Alles, was Sie bezahlt haben, 100 sats, liegt hier für Sie bereit." in failed.text
    other = await german.bought()
    await german.post(f"{other}/cancel")
    ended = await german.get(other)
    assert is_german(ended)
    assert "Dieser Auftrag endete unbezahlt" in ended.text


async def test_a_balance_through_its_life(german: Browser, web: Web) -> None:
    form = await german.get("/sessions")
    assert is_german(form)
    refused = await german.post("/sessions", {"key": form.hidden("key"), "deposit": "none"})
    assert is_german(refused)
    assert "Geben Sie eine ganze Zahl von sats an, von 1 bis 100.000.000." in refused.text
    opened = await german.post("/sessions", {"key": form.hidden("key"), "deposit": "20.000"})
    path = opened.headers["Location"]
    waiting = await german.get(path)
    assert is_german(waiting)
    assert "Zahlen Sie 20.000 sats ein" in waiting.text
    await settle(web, path)
    active = await session_until(german, path, "20.000 sats verfügbar")
    assert is_german(active)
    await german.post(f"{path}/close", {"destination": ""})
    closed = await session_until(german, path, "20.000 sats gehören Ihnen")
    assert is_german(closed)
    assert "Sagen Sie, wohin das Geld geht. Es eilt nicht: Es wartet hier, egal wie lange." in closed.text


async def test_problems_and_what_they_mean_for_the_money(german: Browser, browser: Browser) -> None:
    path = await browser.bought()
    locked = await german.get(path)
    assert is_german(locked)
    assert "Dieser Browser hat den Schlüssel dieses Auftrags nicht" in locked.text
    assert "Wenn Sie für diesen Auftrag bezahlt haben, sind Ihre sats sicher" in locked.text
    assert is_german(await german.get("/nothing"))
    foreign = await german.post("/estimate", {"work": "echo"}, Sec_Fetch_Site="cross-site")
    assert is_german(foreign)
    assert "Es wurden keine sats genommen." in foreign.text


async def test_finding_a_job(german: Browser) -> None:
    assert is_german(await german.get("/find"))
    nothing = await german.post("/find", {"invoice": "lnbc1", "preimage": "00"})
    assert nothing.status == 404
    assert is_german(nothing)


async def test_the_pool(german: Browser, web: Web) -> None:
    await free_tier.fund(web, 12_345)
    page = await german.get("/pool")
    assert is_german(page)
    assert "12.345 sats" in page.text
    assert "Der Betreiber gab" in page.text


async def test_a_work_s_own_words_stay_as_they_are(german: Browser, web: Web) -> None:
    page = await german.get("/")
    entry: Any = web.gateway.catalogue.works[0]
    assert entry.title in page.text


# --- every sentence of money, without a gateway --------------------------------------------------------------


def in_german(say: Any, *args: Any) -> Any:
    with speaking(read_languages(CATALOGUE.parent)["de"]):
        return say(*args)


def refunded(state: str, refund_state: str, sats: int = 1100, **more: Any) -> dict[str, Any]:
    return {"state": state, "refund_state": refund_state, "refund_amount_sats": sats, **more}


@pytest.mark.parametrize(
    ("facts", "headline", "text"),
    [
        (
            refunded("complete", "none", 0, user_charge_sats=1200),
            "Fertig",
            "Es hat Sie 1.200 sats gekostet. Es bleibt nichts übrig.",
        ),
        (
            refunded("complete", "pending", 1, user_charge_sats=1199),
            "Fertig, und 1 sat liegt für Sie zum Abholen bereit",
            "Es hat Sie 1.199 sats gekostet. Der Rest, 1 sat, liegt hier für Sie bereit.",
        ),
        (
            refunded("complete", "paying", user_charge_sats=100),
            "Fertig, und 1.100 sats sind auf dem Weg zu Ihnen",
            "Es hat Sie 100 sats gekostet. Der Rest, 1.100 sats, wird gerade an Ihre Wallet gesendet.",
        ),
        (
            refunded("complete", "paid", user_charge_sats=100),
            "Fertig, und 1.100 sats gingen an Sie zurück",
            "Es hat Sie 100 sats gekostet. Der Rest, 1.100 sats, wurde an Ihre Wallet gesendet.",
        ),
        (
            refunded("complete", "paid", 3, user_charge_sats=1197, refund_donated_sats=3),
            "Fertig, und 3 sats gingen wie gewünscht an den Gratis-Pool",
            "Es hat Sie 1.197 sats gekostet. Der Rest, 3 sats, ging wie gewünscht an den Gratis-Pool.",
        ),
        (
            refunded("complete", "paid", user_charge_sats=100, refund_donated_sats=3),
            "Fertig, und 1.100 sats gingen zurück, davon 3 sats an den Gratis-Pool",
            "Es hat Sie 100 sats gekostet. "
            "Der Rest, 1.100 sats, wurde an Ihre Wallet gesendet, davon 3 sats an den Gratis-Pool.",
        ),
        (
            refunded("failed", "pending", 1200),
            "Die Arbeit ist fehlgeschlagen",
            "Sie zahlen nichts. Alles, was Sie bezahlt haben, 1.200 sats, liegt hier für Sie bereit.",
        ),
        (
            refunded("expired", "pending", 1200),
            "Zu spät bezahlt",
            "Ihre Zahlung kam, als der Auftrag schon zu Ende war. "
            "Alles, was Sie bezahlt haben, 1.200 sats, liegt hier für Sie bereit.",
        ),
        (
            {"state": "executing", "serve": "free"},
            "In Arbeit",
            "Der Pool zahlt dafür, die Arbeit läuft. Diese Seite folgt ihr von selbst; Sie müssen nichts neu laden.",
        ),
        (
            {"state": "awaiting_work_payment", "serve": "partial", "absorb_sats": 200},
            "Zahlen Sie 1.200 sats, um zu beginnen",
            "Der Gratis-Pool gibt 200 sats dazu, wenn er es bei Eingang Ihrer Zahlung noch kann; "
            "sonst geschieht nichts, und Ihr ganzes Geld kommt zurück.",
        ),
    ],
)
def test_a_job_s_money_in_words(facts: dict[str, Any], headline: str, text: str) -> None:
    told = in_german(story, job_view(**facts))
    assert (told.headline, told.text) == (headline, text)


def every_word(job: Any) -> str:
    told = story(job)
    steps = [word for step in told.steps for word in (step.name, step.note)]
    return " | ".join([told.headline, told.text, *steps, *(line.label for line in told.receipt)])


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("refund_state", ["none", "pending", "paying", "paid"])
def test_no_state_of_a_job_is_told_in_english(state: str, refund_state: str) -> None:
    said = in_german(every_word, job_view(**refunded(state, refund_state, absorbed_sats=5, user_charge_sats=95)))
    assert not re.search(r"\b(the|you|your|and|is|paid|cost|to)\b", said, re.IGNORECASE), said


@pytest.mark.parametrize(("state", "outcome", "steps"), LOOKS, ids=lambda value: str(value))
def test_no_look_is_told_in_english(state: str, outcome: str | None, steps: list[str]) -> None:
    look = EvaluationView(fee_sats=10, outcome=outcome, charged_sats=10, absorbed_sats=1)
    said = in_german(every_word, job_view(state=state, evaluation=look))
    assert not re.search(r"\b(the|you|your|and|is|paid|cost|look)\b", said, re.IGNORECASE), said
    assert said.count("Prüfung") >= 1


@pytest.mark.parametrize(
    ("more", "headline"),
    [
        ({"state": "awaiting_deposit"}, "Zahlen Sie 100 sats ein"),
        ({"balance_sats": 1}, "1 sat verfügbar"),
        ({"state": "closed"}, "Geschlossen"),
        (refunded("closed", "pending", 1), "1 sat gehört Ihnen"),
        (refunded("closed", "pending", 5, refund_to="a@b"), "5 sats gehen an Sie zurück"),
        (refunded("closed", "paying", 5_000), "5.000 sats sind unterwegs"),
        (refunded("closed", "paid", 5), "5 sats gingen an Sie zurück"),
        ({"state": "expired"}, "Nie bezahlt"),
    ],
)
def test_a_balance_s_money_in_words(more: dict[str, Any], headline: str) -> None:
    view = session_view(**{"refund_to": None, "refund_problem": None, **more})
    assert in_german(lambda: story_of(view, ever_paid=False)).headline == headline


def test_every_problem_has_a_german_title() -> None:
    for kind in ALL:
        assert kind.title not in in_german(one_line, Problem(kind)), kind.code
