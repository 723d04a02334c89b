"""A new invoice in place of one that was not paid: once, for the same order, and never beside one that was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
import pytest_asyncio

from gateway import idempotency
from gateway.api.models import EvaluationView
from gateway.pages import once
from gateway.pages.again import SCOPE, may_be_renewed
from lightning.types import InvoiceState
from tests.web import free_tier
from tests.web.conftest import Web
from tests.web.test_pages import Browser, Page, job_view, jobs, new_session, pay, until

BUTTON = 'id="again">New invoice</button>'
INPUT = '{"cost": 30, "word": "hello"}'


@pytest_asyncio.fixture
async def browser(web: Web) -> AsyncIterator[Browser]:
    async with new_session() as session:
        yield Browser(session, web.url)


@pytest_asyncio.fixture
async def stranger(web: Web) -> AsyncIterator[Browser]:
    async with new_session() as session:
        yield Browser(session, web.url)


async def order(web: Web, path: str) -> tuple[str, dict[str, object]]:
    """State and input of the job behind a page's address."""
    row = await web.gateway.pool.fetchrow("select state, input from jobs where id = $1", path.rpartition("/")[2])
    assert row is not None
    return row["state"], json.loads(row["input"])


async def hash_of(web: Web, path: str) -> bytes:
    job_id = path.rpartition("/")[2]
    return bytes(await web.gateway.pool.fetchval("select payment_hash from invoices where job_id = $1", job_id))


async def expire(web: Web, browser: Browser, path: str) -> Page:
    """Its invoice runs out, and LND says so."""
    web.node.expire(await hash_of(web, path))
    web.gateway.sweep_wake.set()
    return await until(browser, path, "This job ended unpaid")


async def log_in(web: Web, browser: Browser) -> None:
    status, asked = await web.call("POST", "/api/identity/challenge")
    assert status == 200
    proof = free_tier.ALICE.login(asked["challenge"], web.url)
    answer = await browser.post("/login", {"event": json.dumps(proof)}, Origin=web.url)
    assert answer.status == 204, answer.text


async def test_an_unpaid_job_gives_way_to_a_new_one(web: Web, browser: Browser) -> None:
    old = await browser.bought("echo", INPUT)
    assert BUTTON in (await browser.get(old)).text
    assert BUTTON in (await browser.get(f"{old}/fragment")).text
    answer = await browser.post(f"{old}/again")
    new = answer.headers["Location"]
    assert answer.status == 303
    assert new != old
    assert answer.cookies["boltworks_job"]["path"] == new
    page = await browser.get(new)
    assert "Pay 100 sats to start" in page.text
    assert await order(web, old) == ("expired", json.loads(INPUT))
    assert await order(web, new) == ("awaiting_work_payment", json.loads(INPUT))
    await pay(web, new)
    await until(browser, new, "70 sats are yours to take back")


async def test_an_expired_job_is_ordered_again_by_its_button(web: Web, browser: Browser) -> None:
    old = await browser.bought("echo", INPUT)
    ended = await expire(web, browser, old)
    assert BUTTON in ended.text
    assert "Try again" not in ended.text
    assert "all of it is yours to take back here" in ended.text
    new = (await browser.post(f"{old}/again")).headers["Location"]
    assert new != old
    assert await order(web, new) == ("awaiting_work_payment", json.loads(INPUT))


async def test_a_late_payment_of_the_old_invoice_is_owed_back(web: Web, browser: Browser) -> None:
    """LND was told to cancel; should it settle there all the same, nothing of it is lost."""
    old = await browser.bought("echo", INPUT)
    new = (await browser.post(f"{old}/again")).headers["Location"]
    payment_hash = await hash_of(web, old)
    web.node._invoices[payment_hash] = replace(web.node._invoices[payment_hash], state=InvoiceState.OPEN)
    web.node.settle(payment_hash)
    late = await until(browser, old, "Paid too late")
    assert "Everything you paid, 100 sats, waits for you here" in late.text
    assert (await order(web, new))[0] == "awaiting_work_payment"


async def test_sent_many_times_it_is_one_job(web: Web, browser: Browser) -> None:
    """Two clicks, and a second tab a while later, also when the invoice has run out meanwhile."""
    old = await browser.bought("echo", INPUT)
    answers = await asyncio.gather(*(browser.post(f"{old}/again") for _ in range(6)))
    answers.append(await browser.post(f"{old}/again"))
    assert {answer.status for answer in answers} == {303}
    (new,) = {answer.headers["Location"] for answer in answers}
    assert all(answer.cookies["boltworks_job"]["path"] == new for answer in answers)
    assert await jobs(web) == 2


async def test_one_that_takes_too_long_elsewhere_is_told_so(
    web: Web, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await browser.bought("echo", INPUT)
    key, body = f"again:{path.rpartition('/')[2]}", path.rpartition("/")[2].encode()
    held = await idempotency.claim(web.gateway.pool, scope=SCOPE, key=key, body=body, lease_s=60)
    assert isinstance(held, idempotency.Claim)
    monkeypatch.setattr(once, "PAUSES_S", (0, 0))
    page = await browser.post(f"{path}/again")
    assert (page.status, "being placed already" in page.text) == (409, True)
    assert (await order(web, path))[0] == "awaiting_work_payment"
    await idempotency.release(web.gateway.pool, held)
    assert (await browser.post(f"{path}/again")).headers["Location"] == f"/jobs/{held.resource_id}"


async def test_what_was_paid_meanwhile_is_shown_and_nothing_new_is_made(web: Web, browser: Browser) -> None:
    """At LND already, and not yet here; then here, too; then done."""
    path = await browser.bought("echo", '{"hold": true}')
    web.node.go_unavailable()
    web.node.come_back()  # its stream broke: the settlement is found by whoever asks
    await pay(web, path)
    for _ in range(2):
        answer = await browser.post(f"{path}/again")
        assert (answer.status, answer.headers["Location"], len(answer.cookies)) == (303, path, 0)
        await until(browser, path, "Working on it")
    web.service.release.set()
    done = await until(browser, path, "Done")
    assert BUTTON not in done.text
    assert (await browser.post(f"{path}/again")).headers["Location"] == path
    assert await jobs(web) == 1


async def test_a_node_that_says_nothing_changes_nothing(web: Web, browser: Browser) -> None:
    path = await browser.bought("echo", INPUT)
    web.node.go_unavailable()
    page = await browser.post(f"{path}/again")
    assert (page.status, page.type) == (503, "text/html")
    assert 'id="again-error"' in page.text
    assert "Nothing is lost" in page.text
    assert await jobs(web) == 1
    assert (await order(web, path))[0] == "awaiting_work_payment"
    web.node.come_back()
    assert (await browser.post(f"{path}/again")).headers["Location"] != path
    assert await jobs(web) == 2


async def test_an_answer_that_is_lost_halfway_is_gone_on_from(web: Web, browser: Browser) -> None:
    """The old job is cancelled, the new one's invoice is not here yet: the same button, the same new job."""
    path = await browser.bought("echo", INPUT)
    await expire(web, browser, path)
    web.node.lose_next_answer()
    assert (await browser.post(f"{path}/again")).status == 503
    answer = await browser.post(f"{path}/again")
    assert answer.status == 303
    assert "Pay 100 sats to start" in (await browser.get(answer.headers["Location"])).text
    assert await jobs(web) == 2


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}])
async def test_another_site_can_not_press_it(web: Web, browser: Browser, headers: dict[str, str]) -> None:
    path = await browser.bought("echo", INPUT)
    assert (await browser.post(f"{path}/again", {}, **headers)).status == 403
    assert await jobs(web) == 1
    assert (await order(web, path))[0] == "awaiting_work_payment"


async def test_without_the_cookie_nothing_is_done(web: Web, browser: Browser, stranger: Browser) -> None:
    path = await browser.bought("echo", INPUT)
    answer = await stranger.post(f"{path}/again")
    assert (answer.status, len(answer.cookies)) == (401, 0)
    assert await jobs(web) == 1
    assert (await stranger.post("/jobs/no-such-job-at-all-here/again")).status == 404


async def test_a_reloaded_address_leads_back(browser: Browser) -> None:
    path = await browser.bought("echo", INPUT)
    assert (await browser.get(f"{path}/again")).headers["Location"] == path


async def test_an_input_that_was_removed_leaves_the_link(web: Web, browser: Browser) -> None:
    path = await browser.bought("echo", INPUT)
    await expire(web, browser, path)
    await web.gateway.pool.execute("update jobs set input = '{}', updated_at = now() - interval '8 days'")
    page = await browser.get(path)
    assert BUTTON not in page.text
    assert 'href="/?work=echo">Try again</a>' in page.text
    refused = await browser.post(f"{path}/again")
    assert (refused.status, "not kept any more" in refused.text) == (409, True)
    assert await jobs(web) == 1


async def test_an_empty_input_is_one(web: Web, browser: Browser) -> None:
    path = await browser.bought("echo", "{}")
    assert BUTTON in (await expire(web, browser, path)).text
    assert (await browser.post(f"{path}/again")).headers["Location"] != path


async def test_it_is_priced_now_and_refused_before_the_old_one_ends(web: Web, browser: Browser) -> None:
    path = await browser.bought("echo", INPUT)
    await web.gateway.pool.execute(
        "insert into work_failures (kind, subject, failures) values ('address', '127.0.0.1/32', 9)"
    )
    slowed = await browser.post(f"{path}/again")
    assert (slowed.status, "several times in a row" in slowed.text) == (429, True)
    assert (await order(web, path))[0] == "awaiting_work_payment"
    assert await jobs(web) == 1


async def test_a_work_that_is_no_longer_sold_leaves_the_link(
    web: Web, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await browser.bought("echo", INPUT)
    entries = tuple(work for work in web.gateway.catalogue.works if work.name != "echo")
    monkeypatch.setattr(web.gateway, "catalogue", web.gateway.catalogue.model_copy(update={"works": entries}))
    assert BUTTON not in (await browser.get(path)).text
    assert (await browser.post(f"{path}/again")).status == 404
    assert (await order(web, path))[0] == "awaiting_work_payment"


async def test_the_destination_goes_with_it(web: Web, http: aiohttp.ClientSession) -> None:
    """The page opens by the job's token, too."""
    for refund_to in (web.invoice(0), "alice@wallet.example"):
        job = await web.buy("echo", {"cost": 30}, refundTo=refund_to)
        headers = {"Authorization": f"Bearer {job['token']}"}
        async with http.post(f"{web.url}/jobs/{job['id']}/again", headers=headers, allow_redirects=False) as answer:
            new = answer.headers["Location"].rpartition("/")[2]
        stored = await web.gateway.pool.fetchval("select refund_to from jobs where id = $1", new)
        assert stored == refund_to


async def test_a_destination_that_can_not_be_one_any_more_is_left_out(web: Web, http: aiohttp.ClientSession) -> None:
    job = await web.buy("echo", {"cost": 30})
    await web.gateway.pool.execute("update jobs set refund_to = $1", web.invoice(0, expiry_s=1))
    headers = {"Authorization": f"Bearer {job['token']}"}
    async with http.post(f"{web.url}/jobs/{job['id']}/again", headers=headers, allow_redirects=False) as answer:
        new = answer.headers["Location"].rpartition("/")[2]
    assert new != job["id"]
    assert await web.gateway.pool.fetchval("select refund_to from jobs where id = $1", new) is None


async def test_whoever_is_logged_in_by_now_is_who_buys(web: Web, browser: Browser) -> None:
    await free_tier.fund(web, 1000)
    await free_tier.rank(web, "half")
    path = await browser.bought("echo", INPUT)
    await log_in(web, browser)
    new = (await browser.post(f"{path}/again")).headers["Location"]
    assert "Pay 50 sats to start" in (await browser.get(new)).text
    row = await web.gateway.pool.fetchrow("select pubkey from jobs where id = $1", new.rpartition("/")[2])
    assert row is not None
    assert row["pubkey"] == free_tier.ALICE.pubkey


async def test_a_look_that_was_paid_for_is_not_thrown_away(web: Web, browser: Browser) -> None:
    path = await browser.bought("looked-at", '{"verdict": {"accept": true, "estimateSats": 60}}')
    assert BUTTON in (await browser.get(path)).text
    await pay(web, path)
    asked = await until(browser, path, "Pay 60 sats to start")
    assert BUTTON not in asked.text
    assert (await browser.post(f"{path}/again")).headers["Location"] == path
    assert (await order(web, path))[0] == "awaiting_work_payment"
    assert await jobs(web) == 1


LOOKED = EvaluationView(fee_sats=10, outcome="accepted", charged_sats=10, absorbed_sats=0)
ASKED = EvaluationView(fee_sats=10)


@pytest.mark.parametrize(
    ("state", "evaluation", "can"),
    [
        ("awaiting_work_payment", None, True),
        ("awaiting_work_payment", LOOKED, False),
        ("awaiting_eval_payment", ASKED, True),
        ("evaluating", ASKED, False),
        ("executing", None, False),
        ("complete", None, False),
        ("failed", None, False),
        ("rejected", None, False),
        ("expired", None, True),
        ("expired", LOOKED, True),
    ],
)
def test_what_may_be_renewed(state: str, evaluation: EvaluationView | None, can: bool) -> None:
    assert may_be_renewed(job_view(state=state, evaluation=evaluation)) is can
