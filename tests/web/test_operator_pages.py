"""What the operator's pages show: all of it escaped, found again, paged without a gap; and unknown is never zero."""

from __future__ import annotations

import csv
import io
import re
from html import unescape

import pytest

from gateway.pages.operator import plots
from gateway.pages.operator.lists import LISTINGS
from gateway.pages.operator.overview import node_facts
from gateway.pages.rendering import CSP
from lightning.fake import FakeNode
from lightning.types import Liquidity, NodeUnavailable
from tests.web.conftest import Web
from tests.web.free_tier import ALICE, buy_as, fund, rank
from tests.web.operator_browser import operating

PLOTS = ("revenue", "jobs", "refunds", "pool")
HOSTILE = "<script>alert(1)</script>"
FORMULA = '=HYPERLINK("http://evil.example","' + HOSTILE + '")'
PAGES = (
    "/operator",
    "/operator/events",
    "/operator/pool",
    "/operator/plots",
    "/operator/reconciliation",
    "/operator/logins",
    f"/operator/identities/{ALICE.pubkey}",
    *(f"/operator/{listing.name}" for listing in LISTINGS),
)


async def fill(web: Web) -> str:
    """Something in every list: a job that owes a refund, a session, a grant, an identity. The job's id."""
    await fund(web, 1000)
    await rank(web, "all")
    job = await web.owing()
    free = await buy_as(web, ALICE, "echo", {"cost": 3})
    await web.until(free, state="complete")
    status, _ = await web.call("POST", "/api/sessions", {"depositSats": 500})
    assert status == 201
    return str(job["id"])


async def poison(web: Web) -> None:
    """What a stranger could have written, in every column that keeps words."""
    for statement in (
        "update jobs set failure_reason = $1, work = $1, refund_to = $1, refund_to_error = $1",
        "update sessions set refund_to = $1, refund_to_error = $1",
        "update identities set operator_tier = $1",
        "insert into operator_actions (who, action, subject, said, outcome)"
        " values ('command', 'topup', $1, $1, 'done')",
        "insert into refund_attempts (id, job_id, destination, payment_request, payment_hash, amount_sats, amountless,"
        " fee_limit_msat, expires_at, state, failure_reason)"
        " select 'a', id, $1, $1, sha256('x'), 1, false, 0, now(), 'failed', $1 from jobs limit 1",
    ):
        await web.gateway.pool.execute(statement, FORMULA)


async def test_every_page_lets_nothing_foreign_in(web: Web) -> None:
    await fill(web)
    await poison(web)
    async with operating(web) as operator:
        for path in PAGES:
            page = await operator.get(path)
            body = page.body.decode()
            assert page.status == 200, f"{path}: {page.text}"
            assert page.headers["Content-Security-Policy"] == CSP
            assert page.headers["Cache-Control"] == "no-store"
            assert "<script" not in body, path
            assert not re.search(r'\sstyle="|\son[a-z]+="|javascript:', body), path
            assert not re.search(r'(?:src|href|action)="(?!/|#)', body), path
    await web.gateway.pool.execute("update jobs set refund_to = null, refund_to_error = null")


@pytest.mark.parametrize("name", ["jobs", "refunds", "sessions", "identities", "actions"])
async def test_a_strangers_words_are_words(web: Web, name: str) -> None:
    await fill(web)
    await poison(web)
    async with operating(web) as operator:
        page = await operator.get(f"/operator/{name}")
        assert "&lt;script&gt;alert(1)" in page.body.decode()
        exported = await operator.get(f"/operator/{name}.csv")
    assert (exported.status, exported.type) == (200, "text/csv")
    cells = [cell for row in csv.reader(io.StringIO(exported.body.decode())) for cell in row]
    assert any(HOSTILE in cell for cell in cells)
    assert not [cell for cell in cells if cell.startswith("=")], "a spreadsheet would run it"
    await web.gateway.pool.execute("update jobs set refund_to = null, refund_to_error = null")


async def test_a_job_is_found_by_all_that_names_it(web: Web) -> None:
    job_id = await fill(web)
    payment_hash = await web.gateway.pool.fetchval(
        "select encode(payment_hash, 'hex') from invoices where job_id = $1", job_id
    )
    free_id = await web.gateway.pool.fetchval("select id from jobs where pubkey = $1", ALICE.pubkey)
    async with operating(web) as operator:

        async def found(name: str, searched: str) -> list[dict[str, str]]:
            page = await operator.get(f"/operator/{name}.csv?search={searched}")
            assert page.status == 200
            return list(csv.DictReader(io.StringIO(page.body.decode())))

        assert [row["id"] for row in await found("jobs", job_id)] == [job_id]
        assert [row["id"] for row in await found("jobs", payment_hash)] == [job_id]
        assert [row["id"] for row in await found("jobs", ALICE.pubkey)] == [free_id]
        assert [row["owner"] for row in await found("refunds", payment_hash)] == [job_id]
        assert [row["owner"] for row in await found("invoices", job_id)] == [job_id]
        assert [row["payment_hash"] for row in await found("invoices", payment_hash)] == [payment_hash]
        assert [row["reservation_id"] for row in await found("grants", free_id)] == [f"job:{free_id}"]
        assert {row["cause_kind"] for row in await found("book", job_id)} >= {"settlement", "charge", "refund_owed"}
        assert [row["cause_kind"] for row in await found("book", payment_hash)] == ["settlement"]
        assert {row["cause_kind"] for row in await found("book", "pool")} >= {"topup", "reserve"}
        session_hash = await web.gateway.pool.fetchval(
            "select encode(payment_hash, 'hex') from invoices where session_id is not null"
        )
        assert [row["state"] for row in await found("sessions", session_hash)] == ["awaiting_deposit"]
        for listing in LISTINGS:
            assert await found(listing.name, "nobody") == []
            assert "Nothing matches" in (await operator.get(f"/operator/{listing.name}?search=nobody")).text


async def test_a_filter_shows_one_state(web: Web) -> None:
    job_id = await fill(web)
    async with operating(web) as operator:
        pending = (await operator.get("/operator/refunds?state=pending")).text
        assert re.search(r'70 <span class="unit">sats', pending)
        assert "Its payer has not said where it goes." in pending
        assert "Nothing matches" in (await operator.get("/operator/refunds?state=paid")).text
        assert job_id in (await operator.get(f"/operator/jobs?state=complete&search={job_id}")).text
        assert (
            job_id
            not in (await operator.get(f"/operator/jobs?state=failed&search={job_id}")).text.partition("<table")[2]
        )
        assert ALICE.pubkey in (await operator.get("/operator/identities?state=tier+set")).text
        assert "Nothing matches" in (await operator.get("/operator/identities?state=blocked")).text


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda listing: str(listing.name))
@pytest.mark.parametrize(
    "query", ["state=no-such", "search=%00", "after=%00", "search=" + "x" * 300, "after=%ED%A0%80"]
)
async def test_a_query_that_no_page_makes(web: Web, listing: object, query: str) -> None:
    name = listing.name  # type: ignore[attr-defined]
    async with operating(web) as operator:
        for path in (f"/operator/{name}?{query}", f"/operator/{name}.csv?{query}"):
            page = await operator.get(path)
            # A cursor that names nothing, as text, is simply the end of such a list.
            assert page.status == 400 or (query == "after=%ED%A0%80" and page.status == 200), page.text
            assert page.type in ("text/html", "text/csv")


async def test_pages_follow_each_other_without_a_gap(web: Web) -> None:
    await web.gateway.pool.execute(
        "insert into operator_actions (who, action, subject, said, outcome)"
        " select 'command', 'topup', 'number ' || n, '1 sats', 'done' from generate_series(1, 120) n"
    )
    async with operating(web) as operator:
        seen: list[str] = []
        path, sizes = "/operator/actions", []
        while path:
            page = await operator.get(path)
            numbers = re.findall(r"number (\d+)<", page.body.decode())
            sizes.append(len(numbers))
            seen += numbers
            following = re.search(r'rel="next" href="([^"]+)"', page.text)
            path = following[1] if following else ""
        assert seen == [str(n) for n in range(120, 0, -1)]
        assert sizes == [49, 50, 21], "the login itself stands first"
        exported = await operator.get("/operator/actions.csv?state=done")
        assert len(exported.body.decode().splitlines()) == 1 + 121


async def test_an_export_goes_on_beyond_its_first_page(web: Web) -> None:
    await web.gateway.pool.execute(
        "insert into identities (pubkey) select encode(sha256(n::text::bytea), 'hex') from generate_series(1, 2100) n"
    )
    async with operating(web) as operator:
        lines = (await operator.get("/operator/identities.csv")).body.decode().splitlines()
    assert lines[0].startswith("pubkey,paid_sats")
    assert len(set(lines)) == 1 + 2100


async def test_the_overview_tells_what_is_owed(web: Web) -> None:
    await fill(web)
    async with operating(web) as operator:
        text = (await operator.get("/operator")).text
    assert re.search(r"Refunds payable</dt><dd>−70 sats", text)
    assert re.search(r"Refunds that wait</dt><dd><a [^>]*>1</a>, 70 sats", text)
    assert re.search(r"Can send now</dt><dd>7,920,000 sats", text)
    assert re.search(r"not booked</dt><dd><span class=\"badge good\">none", text)
    assert "covered" in text
    assert "unknown" not in text


async def test_what_the_node_does_not_say_is_unknown(web: Web) -> None:
    web.node.go_unavailable()
    async with operating(web) as operator:
        page = await operator.get("/operator")
    web.node.come_back()
    assert page.status == 200
    node_card = page.text.partition("<h2>Lightning node</h2>")[2].partition("</section>")[0]
    assert node_card.count(">unknown<") == 7
    assert "0 sats" not in node_card
    assert "whether it is covered" in page.text
    assert re.search(r"not booked</dt><dd><span class=\"unknown\">unknown", page.text)
    assert "The Lightning node does not answer." in page.text


async def test_what_the_macaroon_may_not_read_is_unknown_and_the_rest_is_told(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(_: FakeNode) -> Liquidity:
        raise NodeUnavailable("PERMISSION_DENIED: permission denied")

    monkeypatch.setattr(FakeNode, "liquidity", refused)
    facts = await node_facts(web.node)
    assert (facts.liquidity, facts.balance) == (None, web.node.balance)
    async with operating(web) as operator:
        text = (await operator.get("/operator")).text
    assert re.search(r'Can send now</dt><dd><span class="unknown">unknown', text)
    assert re.search(r"Our side of all channels</dt><dd>8,000,000 sats", text)
    assert "permission denied" in text
    assert "macaroon bake" in text


async def test_a_frozen_refund_is_shown_with_the_words_that_decide_it(web: Web) -> None:
    await web.owing()
    await web.gateway.pool.execute(
        "with attempt as (insert into refund_attempts (id, job_id, destination, payment_request, payment_hash,"
        " amount_sats, amountless, fee_limit_msat, expires_at, state, failure_reason) select 'frozen-one', job_id,"
        " 'ln', 'ln', sha256('x'), amount_sats, false, 0, now(), 'frozen', 'history lost' from refunds returning id)"
        " update refunds set state = 'paying', attempt_id = 'frozen-one' from attempt"
    )
    async with operating(web) as operator:
        text = (await operator.get("/operator")).text
        assert "/operator/frozen/frozen-one" in text
        assert "history lost" in (await operator.get("/operator/refunds?state=frozen")).text
        assert "Nothing matches" in (await operator.get("/operator/refunds?state=paying")).text


async def test_plots_show_today(web: Web) -> None:
    await fill(web)
    async with operating(web) as operator:
        page = await operator.get("/operator/plots")
        images = re.findall(r'<img class="plot" src="([^"]+)" width="960" height="320" alt="([^"]+)"', page.text)
        assert [path for path, _ in images] == [f"/operator/plots/{name}.svg" for name in PLOTS]
        alts = dict(zip(PLOTS, (alt for _, alt in images), strict=True))
        assert re.search(r": 3[0-9] sats in 30 days; most 3[0-9] sats on .*, 3[0-9] today\.", alts["revenue"])
        assert re.search(r": 1 jobs in 30 days", alts["jobs"]), "the pool paid for the other one"
        assert alts["refunds"] == "Refunds paid a day: none in 30 days."
        assert re.search(r": from 0 to 99[0-9] sats in 30 days", alts["pool"])
        assert page.text.count("<tr><td>") == 30 * 4
        for path, _ in images:
            for shape in ("", "?narrow"):
                drawn = await operator.get(path + shape)
                assert (drawn.status, drawn.type) == (200, "image/svg+xml")
                assert drawn.headers["Cache-Control"] == "no-store"
                assert drawn.headers["Content-Security-Policy"].startswith(
                    "default-src 'none'; style-src 'unsafe-inline'"
                )
                assert b"<script" not in drawn.body
                assert len(re.findall(rb"<title>\d+ [A-Z][a-z]{2}: ", drawn.body)) == 30
        assert (await operator.get("/operator/plots/no-such.svg")).status == 404


async def test_an_image_shows_what_the_page_beside_it_shows(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "KEPT_S", 3600.0)
    async with operating(web) as operator:
        assert "pool at the end of each day: none" in (await operator.get("/operator/plots")).text
        await fund(web, 1000)
        assert b": 1,000 sats" not in (await operator.get("/operator/plots/pool.svg")).body
        assert "pool at the end of each day: from 0 to 1,000 sats" in (await operator.get("/operator/plots")).text
        assert b": 1,000 sats" in (await operator.get("/operator/plots/pool.svg")).body


async def test_what_can_be_followed_is_followed_without_a_script_too(web: Web) -> None:
    async with operating(web) as operator:
        for path in ("/operator", "/operator/events", "/operator/book?state=settlement"):
            still = (await operator.get(path)).text
            assert "http-equiv" not in still
            assert "<script" not in still
            start = re.search('id="live" href="([^"]+)">Follow live', still)
            assert start is not None
            page = await operator.get(unescape(start[1]))
            assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in page.text
            assert page.text.count("<script") == 1
            assert f'href="{path}">Stop following' in page.text


async def test_a_script_is_given_the_part_that_changes(web: Web) -> None:
    await fill(web)
    async with operating(web) as operator:
        for path in ("/operator?live=1", "/operator/events?live=1", "/operator/jobs?live=1&state=complete"):
            whole = await operator.get(path)
            part = await operator.get(path, X_Fragment="1")
            assert "X-Fragment" not in whole.headers
            assert (part.status, part.headers["X-Fragment"]) == (200, "1")
            assert part.text.strip().startswith('<div id="followed"')
            assert "<main" not in part.text
            assert part.text.strip() in whole.text


async def test_events_tell_what_happened_last(web: Web) -> None:
    job_id = await fill(web)
    async with operating(web) as operator:
        page = await operator.get("/operator/events")
    rows = [unescape(re.sub("<[^>]+>", " ", row)) for row in page.text.split("<tr>")[2:]]
    told = [" ".join(row.split()[2:]) for row in rows]
    assert told[0].startswith("Operator – – done login: let in"), "the newest first"
    assert f"Refund owed job {job_id[:8]}… 70 sats" in " | ".join(told)
    for kind in ("Paid in job", "Charged job", "The pool paid job", "Job made job", "Session opened session"):
        assert any(line.startswith(kind) for line in told), kind
    assert any(line.startswith("Operator – – done topup: 1000 sats") for line in told)
