"""Integrators are told of jobs and refunds: in the change's own transaction, signed, at least once, each by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web as server
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook, WebhookVerificationError

from ledger import sql
from tests.known import OPERATOR
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web
from tests.web.operator_browser import operating

HOOKS = "/api/operator/webhooks"


@pytest.fixture
def more_settings() -> dict[str, Any]:
    return {"operator_key": OPERATOR}


@dataclass
class Integrator:
    """Keeps what it is told, and answers as it is told to."""

    url: str = ""
    status: int = 204
    hold: asyncio.Event | None = None
    told: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def hear(self, request: server.Request) -> server.Response:
        said = ({name.lower(): value for name, value in request.headers.items()}, await request.read())
        async with self.changed:
            self.told.append(said)
            self.changed.notify_all()
        if self.hold is not None:
            await self.hold.wait()
        return server.Response(status=self.status)

    async def until(self, enough: Callable[[list[dict[str, Any]]], bool], secret: str) -> list[dict[str, Any]]:
        """What was told, once it is enough; each signature is verified."""
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(lambda: enough(self.events(secret)))
        return self.events(secret)

    def events(self, secret: str) -> list[dict[str, Any]]:
        return [Webhook(secret).verify(body, headers) for headers, body in self.told]


@dataclass
class Operated:
    web: Web
    integrator: Integrator
    other: Integrator

    async def operator(self, method: str, path: str = "", body: Any = None, **more: Any) -> tuple[int, Any]:
        return await self.web.call(method, f"{HOOKS}{path}", body, token=OPERATOR, **more)

    async def tell(self, integrator: Integrator, *events: str) -> dict[str, Any]:
        status, made = await self.operator("POST", "", {"url": integrator.url, "events": list(events) or ["*"]})
        assert status == 201, made
        return dict(made)

    async def deliveries(self) -> list[dict[str, Any]]:
        status, page = await self.operator("GET", "/deliveries")
        assert status == 200
        return list(page["items"])

    async def until_deliveries(self, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        async with asyncio.timeout(PATIENCE_S):
            while not enough(seen := await self.deliveries()):
                await asyncio.sleep(0.05)
        return seen

    async def time_goes_by(self, attempts: int = 1) -> None:
        """What waits for its next attempt is due, once the end of this many is recorded."""
        due = "update webhook_deliveries set next_attempt_at = now() where state = 'pending' and lease_until is null"
        async with asyncio.timeout(PATIENCE_S):
            while not await self.web.gateway.pool.fetch(f"{due} and attempts >= $1 returning true", attempts):
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture
async def operated(web: Web) -> AsyncIterator[Operated]:
    integrators = (Integrator(), Integrator())
    app = server.Application()
    for number, integrator in enumerate(integrators):
        app.router.add_post(f"/{number}", integrator.hear)
    async with TestServer(app) as listening:
        for number, integrator in enumerate(integrators):
            integrator.url = str(listening.make_url(f"/{number}"))
        yield Operated(web, *integrators)
        for integrator in integrators:
            if integrator.hold is not None:
                integrator.hold.set()


def types(events: list[dict[str, Any]]) -> list[str]:
    return sorted(event["type"] for event in events)


async def test_the_life_of_a_job_and_its_refund(operated: Operated) -> None:
    hook = await operated.tell(operated.integrator)
    job = await operated.web.owing(30)
    await operated.web.call(
        "POST", f"/api/jobs/{job['id']}/refund", {"destination": operated.web.invoice(70)}, token=job["token"]
    )
    events = await operated.integrator.until(lambda told: len(told) >= 6, hook["secret"])
    assert types(events) == [
        *("job.awaiting_work_payment", "job.complete", "job.executing"),
        *("refund.paid", "refund.paying", "refund.pending"),
    ]
    (complete,) = [event["data"] for event in events if event["type"] == "job.complete"]
    assert complete == {
        "jobId": job["id"],
        "work": "echo",
        "state": "complete",
        "serve": "gate",
        "estimateSats": 100,
        "workAmountSats": 100,
        "actualCostSats": 30,
        "absorbedSats": 0,
        "userChargeSats": 30,
    }
    (paid,) = [event["data"] for event in events if event["type"] == "refund.paid"]
    assert (paid["jobId"], paid["amountSats"], paid["state"]) == (job["id"], 70, "paid")
    assert len({headers["webhook-id"] for headers, _ in operated.integrator.told}) == 6


async def test_each_is_told_what_it_asked_for(operated: Operated) -> None:
    first = await operated.tell(operated.integrator, "refund.pending")
    second = await operated.tell(operated.other, "job.*")
    assert first["secret"] != second["secret"]
    await operated.web.owing(30)
    await operated.other.until(lambda told: len(told) >= 3, second["secret"])
    await operated.integrator.until(bool, first["secret"])
    assert types(operated.integrator.events(first["secret"])) == ["refund.pending"]
    assert types(operated.other.events(second["secret"])) == [
        *("job.awaiting_work_payment", "job.complete", "job.executing")
    ]
    with pytest.raises(WebhookVerificationError):
        operated.integrator.events(second["secret"])


async def test_nobody_to_tell_nothing_is_written(operated: Operated) -> None:
    await operated.tell(operated.integrator, "job.rejected")
    await operated.web.owing(30)
    assert await operated.web.gateway.pool.fetchval("select count(*) from webhook_events") == 0


async def test_what_is_rolled_back_is_not_told(operated: Operated) -> None:
    await operated.tell(operated.integrator)
    job = await operated.web.buy("echo", {})
    pool = operated.web.gateway.pool
    before = await pool.fetchval("select count(*) from webhook_events")
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute("update jobs set state = 'expired' where id = $1", job["id"])
        assert await conn.fetchval("select count(*) from webhook_events") == before + 1
        await transaction.rollback()
    assert await pool.fetchval("select count(*) from webhook_events") == before


async def test_a_refusal_is_tried_again_with_one_id(operated: Operated) -> None:
    operated.integrator.status = 500
    hook = await operated.tell(operated.integrator, "job.awaiting_work_payment")
    await operated.web.buy("echo", {})
    (waiting,) = await operated.until_deliveries(lambda all_: bool(all_) and all_[0].get("lastStatus") == 500)
    assert (waiting["state"], waiting["attempts"], "nextAttemptAt" in waiting) == ("pending", 1, True)
    operated.integrator.status = 200
    await operated.time_goes_by()
    (done,) = await operated.until_deliveries(lambda all_: all_[0]["state"] == "delivered")
    assert (done["attempts"], done["lastStatus"]) == (2, 200)
    await operated.integrator.until(lambda told: len(told) == 2, hook["secret"])
    assert len({headers["webhook-id"] for headers, _ in operated.integrator.told}) == 1


async def test_given_up_at_last_and_told_again_on_demand(operated: Operated) -> None:
    operated.integrator.status = 503
    hook = await operated.tell(operated.integrator, "job.awaiting_work_payment")
    await operated.web.buy("echo", {})
    for attempts in range(1, 9):
        await operated.time_goes_by(attempts)
    (failed,) = await operated.until_deliveries(lambda all_: all_[0]["state"] == "failed")
    assert failed["attempts"] == 9
    operated.integrator.status, operated.integrator.hold = 204, asyncio.Event()
    for _ in range(2):
        status, again = await operated.operator("POST", f"/deliveries/{failed['id']}/redeliver", {})
        assert (status, again["state"]) == (202, "pending")
    operated.integrator.hold.set()
    await operated.until_deliveries(lambda all_: all_[0]["state"] == "delivered")
    assert len(operated.integrator.events(hook["secret"])) == 10


async def test_one_that_hangs_holds_up_no_other(operated: Operated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.webhooks.outbox.TIMEOUT_S", 3600.0)
    operated.integrator.hold = asyncio.Event()
    hangs = await operated.tell(operated.integrator, "job.awaiting_work_payment")
    other = await operated.tell(operated.other, "job.awaiting_work_payment")
    await operated.web.buy("echo", {})
    await operated.integrator.until(lambda told: len(told) == 1, hangs["secret"])
    for _ in range(14):
        await operated.web.buy("echo", {})
    await operated.other.until(lambda told: len(told) == 15, other["secret"])
    await operated.integrator.until(lambda told: len(told) == 8, hangs["secret"])  # one hangs, the next are sent
    tried = [one["attempts"] for one in await operated.deliveries() if one["endpointId"] == hangs["id"]]
    assert sorted(tried) == [0] * 7 + [1] * 8  # as many as one endpoint is sent at once


async def test_gone_is_switched_off_and_what_comes_later_is_not_told(operated: Operated) -> None:
    operated.integrator.status = 410
    hook = await operated.tell(operated.integrator, "job.awaiting_work_payment")
    await operated.web.buy("echo", {})
    await operated.until_deliveries(lambda all_: bool(all_) and all_[0]["state"] == "failed")
    async with asyncio.timeout(PATIENCE_S):
        while (await operated.operator("GET"))[1]["items"][0]["enabled"]:
            await asyncio.sleep(0.05)
    await operated.web.buy("echo", {})
    assert len(await operated.deliveries()) == 1
    operated.integrator.status = 200
    status, changed = await operated.operator("PUT", f"/{hook['id']}", {"enabled": True})
    assert (status, changed["enabled"], "disabledReason" in changed) == (200, True, False)
    await operated.web.buy("echo", {})
    await operated.until_deliveries(lambda all_: len(all_) == 2 and all_[0]["state"] == "delivered")


async def test_switched_off_what_waits_is_kept(operated: Operated) -> None:
    operated.integrator.status = 500
    hook = await operated.tell(operated.integrator, "job.awaiting_work_payment")
    await operated.web.buy("echo", {})
    await operated.until_deliveries(lambda all_: bool(all_) and all_[0].get("lastStatus") == 500)
    await operated.operator("PUT", f"/{hook['id']}", {"enabled": False})
    operated.integrator.status = 200
    await operated.time_goes_by()
    assert (await operated.deliveries())[0]["state"] == "pending"
    await operated.operator("PUT", f"/{hook['id']}", {"enabled": True, "url": operated.other.url})
    await operated.until_deliveries(lambda all_: all_[0]["state"] == "delivered")
    assert (len(operated.integrator.told), len(operated.other.told)) == (1, 1)


async def test_a_process_that_died_in_mid_send_is_followed_by_another(operated: Operated) -> None:
    """Its lease stands in the row; once it is over, the event is sent again."""
    operated.integrator.status = 500
    await operated.tell(operated.integrator, "job.awaiting_work_payment")
    await operated.web.buy("echo", {})
    await operated.until_deliveries(lambda all_: bool(all_) and all_[0].get("lastStatus") == 500)
    operated.integrator.status = 200
    pool = operated.web.gateway.pool
    await pool.execute("update webhook_deliveries set lease_until = now() + interval '1 hour', next_attempt_at = now()")
    assert await pool.fetch(sql.load("gateway.webhooks").due_endpoints) == []
    await pool.execute("update webhook_deliveries set lease_until = now() - interval '1 second'")
    await operated.until_deliveries(lambda all_: all_[0]["state"] == "delivered")


async def test_the_same_key_makes_one_endpoint(operated: Operated) -> None:
    body, headers = {"url": operated.integrator.url}, {"Idempotency-Key": "k" * 24}
    made = [await operated.operator("POST", "", body, headers=headers) for _ in range(2)]
    assert made[0] == made[1]
    assert made[0][0] == 201
    assert len((await operated.operator("GET"))[1]["items"]) == 1
    assert "secret" not in str(await operated.operator("GET"))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": 5},
        {"url": "ftp://example.com/"},
        {"url": "http://name:password@example.com/"},
        {"url": "http://"},
        {"url": "https://example.com/ x"},
        {"url": "https://example.com/", "events": []},
        {"url": "https://example.com/", "events": ["job.done"]},
        {"url": "https://example.com/", "events": "*"},
        {"url": "https://example.com/", "secret": "x"},
    ],
    ids=str,
)
async def test_a_wrong_endpoint_is_refused(operated: Operated, body: dict[str, Any]) -> None:
    status, problem = await operated.operator("POST", "", body)
    assert (status, problem["code"]) == (422, "invalid_body")
    assert (await operated.operator("GET"))[1]["items"] == []


async def test_only_the_operator(operated: Operated) -> None:
    for method, path in (
        *(("GET", ""), ("POST", ""), ("PUT", "/x"), ("GET", "/deliveries")),
        ("POST", "/deliveries/x/redeliver"),
    ):
        status, problem = await operated.web.call(method, f"{HOOKS}{path}", {}, token="somebody")
        assert (status, problem["code"]) == (401, "credential_invalid")


async def test_what_is_not_there(operated: Operated) -> None:
    for method, path in (("PUT", "/nothing"), ("POST", "/deliveries/nothing/redeliver"), ("PUT", "/%00")):
        status, problem = await operated.operator(method, path, {})
        assert (status, problem["code"]) == (404, "webhook_not_found")


async def test_the_operators_pages_show_it_and_tell_again(operated: Operated) -> None:
    hook = await operated.tell(operated.integrator, "job.awaiting_work_payment")
    job = await operated.web.buy("echo", {})
    (done,) = await operated.until_deliveries(lambda all_: bool(all_) and all_[0]["state"] == "delivered")
    async with operating(operated.web) as operator:
        assert operated.integrator.url in (await operator.get("/operator/webhooks")).text
        page = await operator.get(f"/operator/deliveries?search={job['id']}&state=delivered")
        assert "Tell it again" in page.text
        again = await operator.send(f"/operator/deliveries/{done['id']}/redeliver")
        assert again.status == 303
        await operated.integrator.until(lambda told: len(told) == 2, hook["secret"])
        log = (await operator.get("/operator/actions")).text
        assert "webhook_redelivery" in log
        assert (await operator.send("/operator/deliveries/nothing/redeliver")).status == 404
    assert len({headers["webhook-id"] for headers, _ in operated.integrator.told}) == 1
    assert hook["secret"] not in log
