"""The pages over real HTTP and a real database: what they show, what they refuse, and that they let nothing in."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from html import unescape
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import segno

from gateway.api.models import EvaluationView, InvoiceView, JobView
from gateway.api.routes import ROUTES
from gateway.pages import forms
from gateway.pages import job as job_page
from gateway.pages.demo_wallet import DemoWallet
from gateway.pages.forms import FieldError
from gateway.pages.origin import is_our_origin
from gateway.pages.qr import invoice_qr
from gateway.pages.result import shown
from gateway.pages.story import story
from gateway.pages.words import words_for
from gateway.problems import ALL, Problem
from lightning import bolt11
from lightning.fake import FakeNode
from tests.waiting import PATIENCE_S
from tests.web import free_tier
from tests.web.conftest import Web

PDF = "markdown-pdf"
HTML = {"Accept": "text/html"}


class Browser:
    """A browser without a screen: keeps cookies, follows no redirect by itself."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def get(self, path: str, **headers: str) -> Page:
        return await self._call("GET", path, None, headers)

    async def post(self, path: str, form: Mapping[str, str] | None = None, **headers: str) -> Page:
        return await self._call("POST", path, form or {}, headers)

    async def _call(self, method: str, path: str, form: Mapping[str, str] | None, headers: dict[str, str]) -> Page:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(
            method, self.url + path, data=form, headers={**HTML, **named}, allow_redirects=False
        ) as response:
            return Page(response, await response.read())

    async def offer(self, work: str = "echo", text: str = "{}") -> dict[str, str]:
        """The form as it stands beside the price, ready to buy."""
        field = "input.markdown" if work == PDF else "input"
        page = await self.post("/estimate", {"work": work, field: text})
        assert page.status == 200, page.text
        return {"work": work, field: text, "agreed": page.hidden("agreed"), "key": page.hidden("key")}

    async def bought(self, work: str = "echo", text: str = "{}") -> str:
        """The path of a fresh job's page."""
        page = await self.post("/jobs", await self.offer(work, text))
        assert page.status == 303, page.text
        return page.headers["Location"]


class Page:
    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.cookies = response.cookies
        self.type = response.content_type
        self.body = body

    @property
    def text(self) -> str:
        return unescape(self.body.decode())

    def hidden(self, name: str) -> str:
        found = re.search(rf'<input type="hidden" name="{name}" value="([^"]*)"', self.body.decode())
        assert found is not None, self.text
        return unescape(found[1])


@pytest_asyncio.fixture
async def browser(web: Web) -> AsyncIterator[Browser]:
    async with new_session() as session:
        yield Browser(session, web.url)


@pytest_asyncio.fixture
async def stranger(web: Web) -> AsyncIterator[Browser]:
    async with new_session() as session:
        yield Browser(session, web.url)


def new_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))


async def jobs(web: Web) -> int:
    return int(await web.gateway.pool.fetchval("select count(*) from jobs"))


async def pay(web: Web, path: str) -> None:
    payment_hash = await web.gateway.pool.fetchval(
        "select payment_hash from invoices where job_id = $1", path.rpartition("/")[2]
    )
    web.node.settle(bytes(payment_hash))


async def until(browser: Browser, path: str, words: str) -> Page:
    """The page once it says so; it is asked again whenever its events tell of a change."""
    async with (
        asyncio.timeout(PATIENCE_S),
        browser.session.get(f"{browser.url}{path}/events") as stream,
    ):
        async for line in stream.content:
            if line.startswith(b"data: "):
                page = await browser.get(path)
                if words in page.text:
                    return page
    raise AssertionError(f"the events ended before the page said {words!r}")


# --- headers and assets ------------------------------------------------------------------------------------


async def every_page(browser: Browser) -> list[Page]:
    path = await browser.bought()
    forms_page = await browser.post("/estimate", {"work": "echo", "input": "{}"})
    gets = [await browser.get(p) for p in ("/", f"/?work={PDF}", "/docs", "/nothing", path, f"{path}/fragment")]
    return [*gets, forms_page]


async def test_every_page_has_its_guards_and_nothing_inline(browser: Browser) -> None:
    for page in await every_page(browser):
        assert page.type == "text/html"
        policy = page.headers["Content-Security-Policy"]
        for part in ("default-src 'none'", "style-src 'self'", "script-src 'self'", "frame-ancestors 'none'"):
            assert part in policy
        assert "unsafe" not in policy
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "same-origin"
        assert page.headers["Cache-Control"] == "no-store"
        markup = page.body.decode()
        assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|<style|\son\w+=|javascript:", markup)
        for address in re.findall(r'(?:src|href|action)="([^"]*)"', markup):
            assert address.startswith(("/", "#", "lightning:")), address


async def test_static_files_are_named_by_their_content_and_kept(browser: Browser) -> None:
    path = await browser.bought()
    markup = (await browser.get(path)).body.decode()
    files = re.findall(r'"(/static/[^"]+)"', markup)
    assert {file.rpartition(".")[2] for file in files} == {"css", "js", "svg"}
    for file in files:
        answer = await browser.get(file)
        assert answer.status == 200
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert (await browser.get("/static/style.000000000000.css")).status == 404
    assert (await browser.get("/static/..%2f..%2fpyproject.toml")).status == 404


async def test_an_unknown_address_is_a_page_for_people_and_a_problem_for_programs(web: Web, browser: Browser) -> None:
    page = await browser.get("/nothing")
    assert (page.status, page.type) == (404, "text/html")
    assert "start page" in page.text
    for path, accept in (("/nothing", "application/json"), ("/nothing", "*/*"), ("/api/nothing", "text/html")):
        answer = await browser.get(path, Accept=accept)
        assert (answer.status, answer.type) == (404, "application/problem+json")
    wrong = await browser.post("/docs")
    assert (wrong.status, wrong.type, wrong.headers["Allow"]) == (405, "text/html", "GET,HEAD")


async def test_docs_list_every_operation(browser: Browser) -> None:
    page = await browser.get("/docs")
    for route in ROUTES:
        assert route.path in page.text
        assert route.summary.replace("`", "") in page.text


# --- price and purchase ------------------------------------------------------------------------------------


async def test_the_start_page_offers_the_works_with_their_prices(browser: Browser) -> None:
    page = await browser.get("/")
    for words in ("Echo", "at most 100 sats", "Markdown to PDF", "10 sats a page"):
        assert words in page.text
    page = await browser.get(f"/?work={PDF}")
    assert 'name="input.markdown"' in page.text
    unknown = await browser.get("/?work=nothing")
    assert (unknown.status, "No sats were taken" in unknown.text) == (404, True)


async def test_the_start_page_says_what_the_pool_has_and_where_you_stand(web: Web, browser: Browser) -> None:
    await free_tier.fund(web, 777)
    assert "has 777 sats to give" in (await browser.get("/")).text
    await free_tier.rank(web, "half")
    status, asked = await web.call("POST", "/api/identity/challenge")
    assert status == 200
    proof = free_tier.ALICE.login(asked["challenge"], web.url)
    logged_in = await browser.post("/login", {"event": json.dumps(proof)}, Origin=web.url)
    assert logged_in.status == 204, logged_in.text
    known = await browser.get("/")
    assert "Your tier is <b>half</b>; 1,000 sats are left for you today." in known.text


async def test_a_work_that_is_looked_at_first_says_what_the_look_costs(web: Web, browser: Browser) -> None:
    page = await browser.post("/estimate", {"work": "looked-at", "input": "{}"})
    assert "For a look at your input, before anything else</dt><dd>10 sats" in page.text
    assert "Have it looked at for 10 sats" in page.text
    path = await browser.bought("looked-at", '{"verdict": {"accept": false, "reason": "Too blurred."}}')
    first = await browser.get(path)
    assert "Pay 10 sats to have your input looked at" in first.text
    await pay(web, path)
    told = await until(browser, path, "Your input was not taken")
    assert "The look at your input cost you 10 sats." in told.text
    assert "Too blurred." in told.text


async def test_the_estimate_shows_who_pays_and_writes_nothing(web: Web, browser: Browser) -> None:
    page = await browser.post("/estimate", {"work": PDF, "input.markdown": "# <b>Hi</b>\r\n\r\nyou"})
    assert re.search(r"You pay</dt><dd>\d+ sats", page.text)
    assert "The free pool pays</dt><dd>0 sats" in page.text
    assert "# &lt;b&gt;Hi&lt;/b&gt;" in page.body.decode()
    assert await jobs(web) == 0
    assert await web.gateway.pool.fetchval("select count(*) from idempotency_keys") == 0


async def test_buying_gives_a_cookie_for_this_job_only(web: Web, browser: Browser) -> None:
    page = await browser.post("/jobs", await browser.offer())
    path = page.headers["Location"]
    job_id = path.removeprefix("/jobs/")
    assert page.status == 303
    cookie = page.cookies[job_page.COOKIE]
    assert (cookie["path"], cookie["samesite"], bool(cookie["httponly"])) == (path, "Lax", True)
    assert not cookie["secure"]
    assert cookie.value not in path
    shown_page = await browser.get(path)
    assert shown_page.status == 200
    assert "Pay 100 sats to start" in shown_page.text
    assert cookie.value not in shown_page.text
    status, job = await web.call("GET", f"/api/jobs/{job_id}", token=cookie.value)
    assert (status, job["id"]) == (200, job_id)
    assert f"lightning:{job['invoice']['paymentRequest']}" in shown_page.text


async def test_the_cookie_is_secure_behind_https(web: Web, browser: Browser) -> None:
    web.gateway.settings = web.gateway.settings.model_copy(update={"public_url": "https://pay.example.org"})
    page = await browser.post("/jobs", await browser.offer())
    assert page.cookies[job_page.COOKIE]["secure"]


async def test_a_form_sent_many_times_buys_once(web: Web, browser: Browser) -> None:
    form = await browser.offer()
    pages = await asyncio.gather(*(browser.post("/jobs", form) for _ in range(8)))
    pages.append(await browser.post("/jobs", form))
    assert {page.status for page in pages} <= {303, 409}
    assert len({page.headers["Location"] for page in pages if page.status == 303}) == 1
    assert await jobs(web) == 1


async def test_input_changed_after_the_price_is_priced_again(web: Web, browser: Browser) -> None:
    form = await browser.offer(PDF, "short")
    form["input.markdown"] = "A long text. " * 1200
    page = await browser.post("/jobs", form)
    assert page.status == 409
    assert await jobs(web) == 0
    agreed = int(page.hidden("agreed"))
    assert agreed > int(form["agreed"])
    assert f"{agreed} sats" in page.text
    form |= {"agreed": str(agreed), "key": page.hidden("key")}
    assert (await browser.post("/jobs", form)).status == 303


async def test_a_used_form_with_other_input_needs_a_new_yes(web: Web, browser: Browser) -> None:
    form = await browser.offer()
    await browser.post("/jobs", form)
    page = await browser.post("/jobs", {**form, "input": '{"other": true}'})
    assert page.status == 422
    assert await jobs(web) == 1
    assert page.hidden("key") != form["key"]


async def test_a_node_that_is_away_costs_nothing_and_the_same_form_goes_on(web: Web, browser: Browser) -> None:
    form = await browser.offer()
    web.node.lose_next_answer()
    page = await browser.post("/jobs", form)
    assert (page.status, page.type) == (503, "text/html")
    assert "Nothing is lost" in page.text
    assert page.hidden("key") == form["key"]
    assert (await browser.post("/jobs", form)).status == 303
    assert await jobs(web) == 1
    assert await web.gateway.pool.fetchval("select count(*) from invoices") == 1


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ({"work": PDF, "input.markdown": ""}, 422, "This must have 1 or more characters."),
        ({"work": PDF, "input.markdown": "x", "input.paper": "a0"}, 422, "Choose one of the list."),
        ({"work": PDF, "input.markdown": "x" * 20_001}, 422, "This must have at most 20000 characters."),
        ({"work": "echo", "input": "{"}, 422, "This is not JSON that we can read."),
        ({"work": "echo", "input": "[1]"}, 422, "This must be a JSON object."),
        ({"work": "echo", "input": '{"a": "\\u0000"}'}, 422, "This is not JSON that we can read."),
        ({"work": "echo", "input": '{"a": "\0"}'}, 400, "No sats were taken"),
        ({"work": "nothing", "input": "{}"}, 404, "not on offer"),
        ({}, 404, "not on offer"),
        ({"work": "echo", "input": "x" * 300_000}, 413, "shorten it"),
    ],
)
@pytest.mark.parametrize("path", ["/estimate", "/jobs"])
async def test_bad_input_is_told_in_place_and_writes_nothing(
    web: Web, browser: Browser, path: str, form: dict[str, str], status: int, words: str
) -> None:
    page = await browser.post(path, form)
    assert (page.status, page.type) == (status, "text/html")
    assert words in page.text
    assert await jobs(web) == 0


MULTIPART = "multipart/form-data; boundary=x"


def part(name: str, header: str) -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n{header}\r\n\r\nvalue\r\n--x--\r\n'.encode()


async def test_a_body_that_is_no_form_of_ours_is_refused(web: Web, browser: Browser) -> None:
    with_file = aiohttp.FormData({"work": "echo"})
    with_file.add_field("input", b"{}", filename="input.json")
    for data, kind in (
        (b"work=echo&input={}", "application/x-www-form-urlencoded; charset=nothing"),
        (b"work=echo&input=\\ud800", "application/x-www-form-urlencoded; charset=unicode_escape"),
        (b"work=echo&work=echo", "application/x-www-form-urlencoded"),
        (b"--x\r\nbroken", MULTIPART),
        (b"--x", "multipart/form-data"),
        (part("a", "Content-Transfer-Encoding: strange"), MULTIPART),
        (part("a", "Content-Length: many"), MULTIPART),
        (part("a", "Content-Encoding: deflate"), MULTIPART),
        (part("a", "Content-Type: text/plain; charset=nothing"), MULTIPART),
        (part("a", "Content-Type: multipart/mixed; boundary=y"), MULTIPART),
        (b"--x\r\n\r\nno name\r\n--x--\r\n", MULTIPART),
        (with_file, None),
    ):
        headers = {**HTML, **({"Content-Type": kind} if kind else {})}
        async with browser.session.post(f"{web.url}/estimate", data=data, headers=headers) as response:
            assert response.content_type == "text/html"
            assert response.status in (400, 404), data


async def test_too_many_open_invoices_is_told_in_place(web: Web, browser: Browser) -> None:
    for _ in range(20):
        await browser.bought()
    page = await browser.post("/jobs", await browser.offer())
    assert page.status == 429
    assert "Pay one, cancel one" in page.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
async def test_forms_of_other_sites_are_refused(web: Web, browser: Browser, headers: dict[str, str]) -> None:
    form = await browser.offer()
    page = await browser.post("/jobs", form, **headers)
    assert (page.status, page.type) == (403, "text/html")
    assert await jobs(web) == 0
    path = await browser.bought()
    assert (await browser.post(f"{path}/cancel", {}, **headers)).status == 403
    assert "Pay 100 sats" in (await browser.get(path)).text


async def test_our_own_forms_are_taken(web: Web, browser: Browser) -> None:
    assert (await browser.post("/jobs", await browser.offer(), Origin=web.url)).status == 303
    form = await browser.offer()
    assert (await browser.post("/jobs", form, Origin=web.url, Sec_Fetch_Site="same-origin")).status == 303


def test_our_origin_is_the_public_one_or_else_the_host() -> None:
    assert is_our_origin("https://pay.example.org", "https://pay.example.org", "127.0.0.1:8420")
    assert not is_our_origin("http://pay.example.org", "https://pay.example.org", "pay.example.org")
    assert not is_our_origin("http://127.0.0.1:8420", "https://pay.example.org", "127.0.0.1:8420")
    assert is_our_origin("http://127.0.0.1:8420", None, "127.0.0.1:8420")
    assert not is_our_origin("null", None, "127.0.0.1:8420")


# --- the job's page ----------------------------------------------------------------------------------------


async def test_a_job_opens_only_for_its_buyer(web: Web, browser: Browser, stranger: Browser) -> None:
    path = await browser.bought()
    other = await stranger.bought()
    for part in ("", "/fragment", "/result"):
        page = await stranger.get(path + part)
        assert (page.status, page.type) == (401, "text/html")
        assert "lnbcrt" not in page.text
    assert (await stranger.get(f"{path}/events")).status == 401
    for action in ("cancel", "refund", "demo-pay", "demo-refund"):
        assert (await stranger.post(f"{path}/{action}", {"destination": "x"})).status == 401
    stolen = next(cookie for cookie in stranger.session.cookie_jar if cookie["path"] == other)
    page = await stranger.get(path, Cookie=f"{job_page.COOKIE}={stolen.value}")
    assert (page.status, "your sats are safe" in page.text) == (401, True)
    unknown = await browser.get("/jobs/no-such-job-at-all-here")
    assert (unknown.status, unknown.type) == (404, "text/html")


async def test_the_way_of_a_paid_job(web: Web, browser: Browser) -> None:
    path = await browser.bought("echo", '{"cost": 30, "word": "<i>hello</i>"}')
    first = await browser.get(path)
    assert '<noscript><meta http-equiv="refresh"' in first.body.decode()
    await pay(web, path)
    done = await until(browser, path, "70 sats are yours to take back")
    assert "http-equiv" not in done.body.decode()
    assert "The work cost you</dt><dd>30 sats" in done.text
    assert "&lt;i&gt;hello&lt;/i&gt;" in done.body.decode()
    download = await browser.get(f"{path}/result")
    assert json.loads(download.body) == {"echo": {"cost": 30, "word": "<i>hello</i>"}}
    assert download.headers["Content-Disposition"].startswith("attachment;")

    taken = await browser.post(f"{path}/refund", {"destination": web.invoice(70)})
    assert (taken.status, taken.headers["Location"]) == (303, path)
    paid = await until(browser, path, "70 sats went back to you")
    assert "Sent back to you</dt><dd>70 sats" in paid.text
    assert 'name="destination"' not in paid.text


async def test_the_pdf_is_a_download(web: Web, browser: Browser) -> None:
    path = await browser.bought(PDF, "# Grüße\n\nfrom *here*")
    assert (await browser.get(f"{path}/result")).status == 404
    await pay(web, path)
    done = await until(browser, path, "Download")
    assert "Pages: 1" in done.text
    pdf = await browser.get(f"{path}/result")
    assert pdf.body.startswith(b"%PDF")
    assert pdf.type == "application/pdf"
    assert pdf.headers["X-Content-Type-Options"] == "nosniff"
    assert re.match(r'attachment; filename="[a-z-]+\.pdf"', pdf.headers["Content-Disposition"])


async def test_a_refused_refund_stands_beside_its_form_with_what_was_typed(web: Web, browser: Browser) -> None:
    path = await browser.bought("echo", '{"cost": 30}')
    await pay(web, path)
    await until(browser, path, "70 sats are yours")
    for typed, status, words in (
        ('lnbc"><script>alert(1)</script>', 422, "can not be read"),
        ("", 422, "Paste an invoice"),
        (web.invoice(71), 422, "Make an invoice over 70 sats"),
        (web.invoice(70, expiry_s=1), 422, "has expired"),
    ):
        page = await browser.post(f"{path}/refund", {"destination": typed})
        assert (page.status, page.type) == (status, "text/html")
        assert words in page.text
        assert "Your refund is still yours" in page.text
        assert "<script>alert" not in page.body.decode()
        assert typed in page.text
        part = await browser.post(f"{path}/refund", {"destination": typed}, X_Fragment="1")
        assert (part.status, part.headers["X-Fragment"]) == (status, "1")
        assert "<html" not in part.text
    assert web.node.sent == []


async def test_a_job_whose_work_fails_says_that_it_costs_nothing(web: Web, browser: Browser) -> None:
    path = await browser.bought("echo", '{"fail": true}')
    await pay(web, path)
    page = await until(browser, path, "The work failed")
    assert "You pay nothing. Everything you paid, 100 sats, waits for you here" in page.text
    assert "Why:" in page.text


async def test_an_unpaid_job_can_be_cancelled_and_a_running_one_not(web: Web, browser: Browser) -> None:
    path = await browser.bought()
    assert (await browser.post(f"{path}/cancel")).status == 303
    page = await browser.get(path)
    assert "This job ended unpaid" in page.text
    assert "lightning:" not in page.text
    running = await browser.bought("echo", '{"hold": true}')
    await pay(web, running)
    await until(browser, running, "Working on it")
    assert (await browser.post(f"{running}/cancel")).status == 409
    web.service.release.set()
    await until(browser, running, "Done")


async def test_a_reloaded_form_address_leads_back(browser: Browser) -> None:
    path = await browser.bought()
    for action in ("cancel", "refund", "demo-pay", "demo-refund"):
        page = await browser.get(f"{path}/{action}")
        assert (page.status, page.headers["Location"]) == (303, path)
    for form in ("/estimate", "/jobs"):
        assert (await browser.get(form)).headers["Location"] == "/"


async def test_the_signed_receipt_is_a_download(web: Web, browser: Browser, stranger: Browser) -> None:
    path = await browser.bought()
    assert (await browser.get(f"{path}/receipt")).status == 404
    await pay(web, path)
    page = await until(browser, path, "Done")
    assert f'href="{path}/receipt"' in page.text
    receipt = await browser.get(f"{path}/receipt")
    assert receipt.headers["Content-Disposition"].startswith("attachment")
    assert json.loads(receipt.body)["receipt"]["jobId"] == path.rpartition("/")[2]
    assert (await stranger.get(f"{path}/receipt")).status == 401


async def payment_of(web: Web, path: str) -> tuple[str, str]:
    """What the payer's wallet remembers: invoice and preimage."""
    row = await web.gateway.pool.fetchrow(
        "select payment_request, preimage from invoices where job_id = $1", path.rpartition("/")[2]
    )
    assert row is not None
    return row["payment_request"], bytes(row["preimage"]).hex()


async def test_a_lost_job_is_found_by_its_payment(web: Web, browser: Browser, stranger: Browser) -> None:
    path = await browser.bought()
    await pay(web, path)
    await until(browser, path, "Done")
    invoice, preimage = await payment_of(web, path)
    assert "Find my job" in (await stranger.get("/find")).text
    assert (await stranger.get(path)).status == 401
    found = await stranger.post("/find", {"invoice": f" lightning:{invoice.upper()} ", "preimage": preimage.upper()})
    assert (found.status, found.headers["Location"]) == (303, path)
    assert "Done" in (await stranger.get(path)).text


@pytest.mark.parametrize("wrong", ["unpaid", "no invoice", "no preimage", "another's", "hash", "nothing"])
async def test_half_a_proof_finds_nothing(web: Web, browser: Browser, stranger: Browser, wrong: str) -> None:
    path = await browser.bought()
    invoice, preimage = await payment_of(web, path)
    if wrong != "unpaid":
        await pay(web, path)
        await until(browser, path, "Done")
    other_path = await browser.bought()
    await pay(web, other_path)
    await until(browser, other_path, "Done")
    other_invoice, _ = await payment_of(web, other_path)
    forms_of = {
        "unpaid": {"invoice": invoice, "preimage": preimage},
        "no invoice": {"invoice": "", "preimage": preimage},
        "no preimage": {"invoice": invoice, "preimage": ""},
        "another's": {"invoice": other_invoice, "preimage": preimage},
        "hash": {"invoice": invoice, "preimage": bolt11.read(invoice).payment_hash.hex()},
        "nothing": {},
    }
    page = await stranger.post("/find", forms_of[wrong])
    assert (page.status, page.cookies) == (404, {})
    assert "Nothing that was paid fits these two" in page.text
    assert preimage not in page.text
    assert (await stranger.get(path)).status == 401


@pytest.mark.parametrize("fault", [ConnectionRefusedError("down"), TimeoutError()])
async def test_a_database_that_is_away_is_told_as_a_page(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    path = await browser.bought()

    async def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(job_page, "view_of", fail)
    page = await browser.get(path)
    assert (page.status, page.type, page.headers["Retry-After"]) == (503, "text/html", "5")
    assert "your payment is safe" in page.text
    assert f'href="{path}"' in page.text


async def test_a_fault_of_ours_is_a_page_without_its_inside(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    path = await browser.bought()

    async def fail(*_: object) -> None:
        raise RuntimeError("the inside")

    monkeypatch.setattr(job_page, "view_of", fail)
    page = await browser.get(path)
    assert (page.status, page.type) == (500, "text/html")
    assert "the inside" not in page.text
    assert "what you paid buys the work, or is owed back" in page.text


async def test_without_the_setting_there_is_no_demo_wallet(browser: Browser) -> None:
    path = await browser.bought()
    assert "demo wallet" not in (await browser.get(path)).text
    assert (await browser.post(f"{path}/demo-pay")).status == 404
    assert "Pay 100 sats" in (await browser.get(path)).text


@pytest.mark.parametrize(
    ("network", "setting", "usable"), [("regtest", True, True), ("mainnet", True, False), ("regtest", False, False)]
)
async def test_the_demo_wallet_is_for_regtest_only(web: Web, network: str, setting: bool, usable: bool) -> None:
    web.gateway.settings = web.gateway.settings.model_copy(update={"demo_wallet": setting})
    web.node.network = network
    wallet = DemoWallet(web.gateway, FakeNode(network=network))
    assert await wallet.usable() is usable
    if usable:
        assert (await wallet.invoice(5)).startswith("lnbcrt")
    else:
        with pytest.raises(Problem):
            await wallet.invoice(5)


# --- the pure parts ----------------------------------------------------------------------------------------

STATES = ("awaiting_work_payment", "executing", "complete", "failed", "rejected", "expired")


def job_view(**facts: Any) -> JobView:
    moment = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    invoice = InvoiceView(
        payment_request="lnbcrt1",
        payment_hash="00" * 32,
        amount_sats=1200,
        expires_at=moment,
        state="settled",
        amount_paid_sats=1200,
    )
    known: dict[str, Any] = {
        "id": "x" * 22,
        "work": "echo",
        "state": "complete",
        "serve": "gate",
        "estimate_sats": 1200,
        "absorb_sats": 0,
        "work_amount_sats": 1200,
        "invoice": invoice,
        "refund_state": "none",
        "refund_amount_sats": 0,
        "created_at": moment,
        "updated_at": moment,
    }
    return JobView(**{**known, **facts})


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("refund_state", ["none", "pending", "paying", "paid"])
def test_every_state_has_its_words_and_one_step_at_most_is_now(state: str, refund_state: str) -> None:
    told = story(job_view(state=state, refund_state=refund_state, refund_amount_sats=1100))
    assert told.headline
    assert told.text
    assert [step.name for step in told.steps] == ["Price", "Pay", "Work", "Result", "Refund"]
    if state not in ("awaiting_work_payment", "executing"):
        owed = refund_state != "none"
        assert ("1,100 sats" in f"{told.headline} {told.text}") == owed
        assert told.moving == (refund_state == "paying")
        assert sum(step.state == "current" for step in told.steps) == (refund_state in ("pending", "paying"))


LOOKS = [
    ("awaiting_eval_payment", None, ["current", "done", "todo", "todo", "todo", "todo"]),
    ("evaluating", None, ["current", "done", "todo", "todo", "todo", "todo"]),
    ("awaiting_work_payment", "accepted", ["done", "done", "current", "todo", "todo", "todo"]),
    ("executing", "accepted", ["done", "done", "done", "current", "todo", "todo"]),
    ("complete", "accepted", ["done", "done", "done", "done", "done", "skipped"]),
    ("rejected", "rejected", ["failed", "done", "skipped", "skipped", "skipped", "skipped"]),
    ("failed", "failed", ["failed", "done", "skipped", "skipped", "skipped", "skipped"]),
    ("failed", "accepted", ["done", "done", "done", "failed", "skipped", "skipped"]),
    ("expired", None, ["failed", "done", "skipped", "skipped", "skipped", "skipped"]),
]


@pytest.mark.parametrize(("state", "outcome", "steps"), LOOKS, ids=lambda value: str(value))
def test_the_steps_of_a_job_that_is_looked_at(state: str, outcome: str | None, steps: list[str]) -> None:
    charged = None if outcome is None else 0 if outcome == "failed" else 10
    look = EvaluationView(fee_sats=10, outcome=outcome, charged_sats=charged, absorbed_sats=charged and 0)
    told = story(job_view(state=state, evaluation=look))
    assert [step.name for step in told.steps] == ["Look", "Price", "Pay", "Work", "Result", "Refund"]
    assert [step.state for step in told.steps] == steps
    kept = "The look at your input cost you" in " ".join([told.text, *(line.label for line in told.receipt)])
    assert kept == bool(charged)


def test_the_receipt_adds_up_in_words() -> None:
    told = story(job_view(user_charge_sats=100, refund_state="paid", refund_amount_sats=1100))
    assert [(line.label, line.amount_sats) for line in told.receipt] == [
        ("You paid", 1200),
        ("The work cost you", 100),
        ("Sent back to you", 1100),
    ]
    one = story(job_view(user_charge_sats=1199, refund_state="pending", refund_amount_sats=1))
    assert one.headline == "Done, and 1 sat is yours to take back"
    unpaid = job_view(state="expired", invoice=None)
    assert story(unpaid).receipt == ()


def test_every_problem_has_words_for_people() -> None:
    for kind in ALL:
        told = words_for(Problem(kind, "A detail."))
        assert told.what
        assert "jobs/" not in told.what


SCHEMA = {
    "type": "object",
    "required": ["text", "size"],
    "properties": {
        "text": {"type": "string", "maxLength": 5000},
        "name": {"type": "string", "maxLength": 50, "description": "Yours."},
        "size": {"type": "integer", "minimum": 1, "maximum": 9},
        "scale": {"type": "number"},
        "mode": {"enum": ["a", 2, None]},
        "fast": {"type": "boolean"},
        "tags": {"type": "array"},
    },
}


def test_a_form_follows_from_the_schema() -> None:
    example = {"text": "hello", "size": 3, "mode": 2, "fast": True, "tags": ["x"]}
    made = {field.key: field for field in forms.fields(SCHEMA, None, example)}
    kinds = {key: field.kind for key, field in made.items()}
    assert kinds == {
        "text": "textarea",
        "name": "text",
        "size": "integer",
        "scale": "number",
        "mode": "select",
        "fast": "checkbox",
        "tags": "json",
    }
    assert made["mode"].options == ("", "a", "2", "null")
    assert dict(made["size"].attributes) == {"min": "1", "max": "9"}
    assert dict(made["name"].attributes) == {"maxlength": "50"}
    typed = {field.name: field.value for field in made.values()}
    assert forms.read_input(SCHEMA, typed) == example


def test_what_was_typed_becomes_the_input() -> None:
    typed = {"input.text": "a\r\nb\rc", "input.size": " 4 ", "input.scale": "1.5", "input.mode": "null"}
    read = forms.read_input(SCHEMA, typed)
    assert read == {"text": "a\nb\nc", "size": 4, "scale": 1.5, "mode": None, "fast": False}


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("size", "4.5"),
        ("size", "1e3"),
        ("size", ""),
        ("size", "9" * 40),
        ("scale", "NaN"),
        ("scale", "true"),
        ("mode", "z"),
        ("tags", "[1"),
        ("tags", "[" * 1000),
    ],
)
def test_what_can_not_be_read_names_its_field(key: str, text: str) -> None:
    read = forms.read_input(SCHEMA, {"input.text": "x", "input.size": "1", f"input.{key}": text})
    assert isinstance(read, FieldError)
    assert read.key == key


def test_a_schema_fault_becomes_a_sentence_at_its_field() -> None:
    assert forms.field_error("#/text", "must not be blank") == FieldError("text", "This must not be blank.")
    assert forms.field_error("#/a~1b/0", "is missing") == FieldError("a/b", "This is missing.")
    assert forms.field_error("#", "needs exactly one of x, y") == FieldError("", "This needs exactly one of x, y.")


def test_results_as_people_see_them() -> None:
    pdf = {"mediaType": "application/pdf", "encoding": "base64", "data": "JVBERg==", "pages": 2, "filename": "a.pdf"}
    file = shown(pdf)
    assert (file.kind, file.body, file.filename) == ("file", b"%PDF", "a.pdf")
    assert ("Pages", "2") in file.facts
    assert shown({"text": "hi", "tokens": 3}).text == "hi"
    assert shown("plain").kind == "text"
    assert shown({"a": [1]}).text == '{\n  "a": [\n    1\n  ]\n}'
    assert shown({**pdf, "data": "not base64!"}).kind == "json"
    assert shown({**pdf, "mediaType": "text/html\r\nX: y"}).kind == "json"


@pytest.mark.parametrize("name", ['../../etc/"x".pdf', "a\r\nSet-Cookie: x=y", "grüße.pdf", "", 5, "." * 300])
def test_a_filename_can_not_leave_its_header(name: Any) -> None:
    body = base64.b64encode(b"x").decode()
    file = shown({"mediaType": "application/pdf", "data": body, "filename": name})
    assert re.fullmatch(r"attachment; filename=\"[^\"\\/\r\n]+\"; filename\*=UTF-8''[\w.%~-]+", file.disposition)


def test_the_qr_code_is_alphanumeric_and_needs_no_style() -> None:
    invoice = "lnbcrt300n1p4sxcpqpp53z6nep7w039xrceapvrdjdt30cntsvqg8k4rjja5wtkx00kgqr7" * 4
    svg = str(invoice_qr(invoice))
    assert svg.startswith("<svg")
    assert "style" not in svg
    assert segno.make_qr(f"LIGHTNING:{invoice.upper()}").mode == "alphanumeric"
