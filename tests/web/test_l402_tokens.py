"""L402 on `/v1`: challenged, paid, let in, metered; what is left comes back. Against the fake node."""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64decode, standard_b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from pymacaroons.serializers import BinarySerializer

from lightning import bolt11
from tests.l402_client import Answer, Client
from tests.loud_model import LoudModelServer, loud_model_server, sell
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web

HELLO = {"model": "loud", "messages": [{"role": "user", "content": "say hello to me"}]}
COST_SATS = 6
CHAT, MODELS, SESSION = "/v1/chat/completions", "/v1/models", "/api/sessions/current"


@dataclass
class Buyer:
    web: Web
    upstream: LoudModelServer
    client: Client

    async def chat(self, *, once: bool = False, **headers: str) -> Answer:
        send = self.client.send if once else self.client.ask
        return await send("POST", f"{self.web.url}{CHAT}", HELLO, **headers)

    async def get(self, path: str, *, once: bool = False) -> Answer:
        send = self.client.send if once else self.client.ask
        return await send("GET", f"{self.web.url}{path}")

    async def preimage(self, invoice: str) -> str:
        found = await self.web.gateway.pool.fetchval(
            "select preimage from invoices where payment_hash = $1", bolt11.read(invoice).payment_hash
        )
        return bytes(found).hex()

    async def balance(self) -> int:
        seen = await self.get(SESSION, once=True)
        assert (seen.status, seen.body["heldSats"]) == (200, 0)
        return int(seen.body["balanceSats"])

    async def open_invoices(self) -> int:
        return int(await self.web.gateway.pool.fetchval("select count(*) from invoices where state <> 'settled'"))

    def narrowed(self, *caveats: str) -> Client:
        """Somebody whom the holder handed a part of what he has."""
        assert self.client.credential is not None
        token, _, preimage = self.client.credential.rpartition(":")
        macaroon: Any = BinarySerializer().deserialize_raw(b64decode(token))
        for caveat in caveats:
            macaroon.add_first_party_caveat(caveat)
        less = standard_b64encode(BinarySerializer().serialize_raw(macaroon)).decode()
        return Client(self.client.http, self.client.pay, f"{less}:{preimage}")


@pytest_asyncio.fixture
async def buyer(web: Web) -> AsyncIterator[Buyer]:
    async with loud_model_server() as upstream:
        sell(web.gateway, upstream.url)

        async def pay(invoice: str) -> str:
            web.node.settle(bolt11.read(invoice).payment_hash)
            return await made.preimage(invoice)

        made = Buyer(web, upstream, Client(web.http, pay))
        yield made


async def test_who_pays_is_let_in_and_metered(buyer: Buyer) -> None:
    answer = await buyer.chat()
    assert answer.status == 200, answer.body
    assert answer.body["choices"][0]["message"]["content"] == "SAY HELLO TO ME"
    (paid,) = buyer.client.paid
    worth = bolt11.read(paid.invoice).amount_msat // 1000
    assert answer.headers["X-Boltworks-Cost-Sats"] == str(COST_SATS)
    assert await buyer.balance() == worth - COST_SATS
    assert (await buyer.get(MODELS, once=True)).body["data"][0]["id"] == "loud"
    assert await buyer.balance() == worth - COST_SATS


async def test_the_402_says_what_it_is_in_openais_form(buyer: Buyer) -> None:
    answer = await buyer.chat(once=True)
    error = answer.body["error"]
    assert (answer.status, error["code"], error["type"]) == (402, "payment_required", "insufficient_quota")
    assert error["invoice"]["amountSats"] == error["estimateSats"]
    assert (error["token"], error["invoice"]["paymentRequest"]) == (
        answer.challenged.token,
        answer.challenged.invoice,
    )
    assert buyer.upstream.asked == []


async def test_the_older_name_is_accepted(buyer: Buyer) -> None:
    buyer.client.scheme = "LSAT"
    assert (await buyer.chat()).status == 200


async def test_models_alone_can_be_paid_for(buyer: Buyer) -> None:
    assert (await buyer.get(MODELS)).status == 200
    assert await buyer.balance() == buyer.web.gateway.settings.l402_sats


async def test_asking_again_costs_no_invoice(buyer: Buyer) -> None:
    answers = await asyncio.gather(*(buyer.chat(once=True) for _ in range(20)))
    assert len({answer.challenged.invoice for answer in answers}) == 1
    assert await buyer.open_invoices() == 1
    buyer.web.node.go_unavailable()
    assert (await buyer.chat(once=True)).challenged.invoice == answers[0].challenged.invoice  # nor a call of LND


async def test_who_shares_an_address_and_its_invoice_shares_no_token(buyer: Buyer) -> None:
    """Also not who learned the preimage on the payment's way: the first token that comes with it is the one."""
    other = Client(buyer.web.http, buyer.client.pay)
    shown = (await other.send("POST", f"{buyer.web.url}{CHAT}", HELLO)).challenged
    assert (await buyer.chat()).status == 200
    (paid,) = buyer.client.paid
    assert (paid.invoice, paid.token != shown.token) == (shown.invoice, True)
    other.credential = f"{shown.token}:{await buyer.preimage(shown.invoice)}"
    left = await buyer.balance()
    for method, path, body in (("POST", CHAT, HELLO), ("GET", MODELS, None), ("POST", f"{SESSION}/close", {})):
        assert (await other.send(method, f"{buyer.web.url}{path}", body)).status == 401
    assert await buyer.balance() == left


async def test_of_tokens_that_come_at_once_one_is_let_in(buyer: Buyer) -> None:
    clients = [Client(buyer.web.http, buyer.client.pay) for _ in range(8)]
    for client in clients:
        challenged = (await client.send("GET", f"{buyer.web.url}{MODELS}")).challenged
        client.credential = f"{challenged.token}:{await buyer.preimage(challenged.invoice)}"
    buyer.web.node.settle(bolt11.read(challenged.invoice).payment_hash)
    answers = await asyncio.gather(*(client.send("GET", f"{buyer.web.url}{MODELS}") for client in clients))
    assert sorted(answer.status for answer in answers) == [200] + [401] * 7


async def test_open_challenges_are_capped(buyer: Buyer) -> None:
    """Of one address, each three times the one before, so that none is worth what is asked now."""
    seen = [(await buyer.chat(once=True, **{"X-Deposit-Sats": str(3**power)})).status for power in range(5, 17)]
    assert set(seen) == {402}
    for _ in range(8):
        assert (await buyer.web.call("POST", "/api/sessions", {"depositSats": 1}))[0] == 201
    refused = await buyer.chat(once=True, **{"X-Deposit-Sats": "99999999"})
    assert (refused.status, refused.body["error"]["code"]) == (429, "too_many_open_invoices")
    assert await buyer.open_invoices() == 20


async def test_open_challenges_are_capped_in_all(buyer: Buyer) -> None:
    gateway = buyer.web.gateway
    gateway.settings = gateway.settings.model_copy(update={"open_invoices_total": 0})
    refused = await buyer.chat(once=True)
    assert (refused.status, refused.body["error"]["code"]) == (429, "too_many_open_invoices")
    assert await buyer.open_invoices() == 0


async def test_a_token_can_be_worth_more_than_one_request(buyer: Buyer) -> None:
    assert (await buyer.chat(**{"X-Deposit-Sats": "1000"})).status == 200
    for _ in range(3):
        assert (await buyer.chat(once=True)).status == 200
    assert await buyer.balance() == 1000 - 4 * COST_SATS


@pytest.mark.parametrize("wanted", ["-1", "1.5", "many", "100000001", "9999999999"])
async def test_a_wrong_deposit_opens_nothing(buyer: Buyer, wanted: str) -> None:
    answer = await buyer.chat(once=True, **{"X-Deposit-Sats": wanted})
    assert (answer.status, answer.body["error"]["code"]) == (400, "invalid_request")
    assert await buyer.open_invoices() == 0


@pytest.mark.parametrize("body", [{"model": "nobody"}, {"n": 2}, {"messages": []}, {"max_sats": 1}])
async def test_what_would_be_refused_anyway_opens_nothing(buyer: Buyer, body: dict[str, Any]) -> None:
    answer = await buyer.client.send("POST", f"{buyer.web.url}{CHAT}", {**HELLO, **body})
    assert answer.status in (404, 422)
    assert await buyer.open_invoices() == 0


async def test_worn_out_it_is_challenged_anew_and_never_spends_more(buyer: Buyer) -> None:
    assert (await buyer.chat()).status == 200
    (paid,) = buyer.client.paid
    worth = bolt11.read(paid.invoice).amount_msat // 1000
    answers = [await buyer.chat(once=True) for _ in range(worth // COST_SATS + 1)]
    assert answers[-1].challenged.token != paid.token
    served = 1 + sum(answer.status == 200 for answer in answers)
    assert await buyer.balance() == worth - served * COST_SATS
    assert len(buyer.upstream.asked) == served


async def test_in_parallel_only_what_fits_runs(buyer: Buyer) -> None:
    estimate = (await buyer.chat(once=True)).body["error"]["estimateSats"]
    wanted = {"X-Deposit-Sats": str(3 * estimate)}
    buyer.upstream.hold = asyncio.Event()
    assert (await buyer.get(MODELS)).status == 200
    buyer.client.credential = None
    assert (await buyer.client.ask("GET", f"{buyer.web.url}{MODELS}", **wanted)).status == 200
    streamed = {**HELLO, "stream": True}

    async def stream() -> int:
        headers = {"Authorization": f"L402 {buyer.client.credential}"}
        async with buyer.web.http.post(f"{buyer.web.url}{CHAT}", json=streamed, headers=headers) as response:
            await response.read()
            return response.status

    running = [asyncio.create_task(stream()) for _ in range(12)]
    refused = 0
    for ended in asyncio.as_completed(running):
        refused += await ended == 402
        if refused == 9:
            break
    buyer.upstream.hold.set()
    assert sorted(await asyncio.gather(*running)) == [200] * 3 + [402] * 9
    assert await buyer.balance() == 3 * estimate - 3 * COST_SATS


async def test_unpaid_it_opens_nothing(buyer: Buyer) -> None:
    challenged = (await buyer.chat(once=True)).challenged
    buyer.client.credential = f"{challenged.token}:{await buyer.preimage(challenged.invoice)}"
    for _ in range(2):
        answer = await buyer.chat(once=True)
        assert (answer.status, answer.body["error"]["code"]) == (401, "invalid_api_key")
    buyer.web.node.settle(bolt11.read(challenged.invoice).payment_hash)
    assert (await buyer.chat(once=True)).status == 200


@pytest.mark.parametrize("way", ["no preimage", "another's preimage", "the payment hash", "a random one", "bearer"])
async def test_a_stolen_macaroon_opens_nothing(buyer: Buyer, way: str) -> None:
    assert (await buyer.chat()).status == 200
    (paid,) = buyer.client.paid
    left = await buyer.balance()
    other = Client(buyer.web.http, buyer.client.pay)
    await other.ask("GET", f"{buyer.web.url}{MODELS}")
    preimages = {
        "no preimage": "",
        "another's preimage": await buyer.preimage(other.paid[0].invoice),
        "the payment hash": bolt11.read(paid.invoice).payment_hash.hex(),
        "a random one": secrets.token_hex(32),
        "bearer": "",
    }
    thief = Client(buyer.web.http, buyer.client.pay, f"{paid.token}:{preimages[way]}".rstrip(":"))
    if way == "bearer":
        thief.scheme, thief.credential = "Bearer", paid.token
    for method, path, body in (
        ("POST", CHAT, HELLO),
        ("GET", MODELS, None),
        ("GET", SESSION, None),
        ("POST", f"{SESSION}/close", {}),
    ):
        assert (await thief.send(method, f"{buyer.web.url}{path}", body)).status == 401
    assert await buyer.balance() == left


async def test_what_is_handed_on_has_its_limits(buyer: Buyer) -> None:
    assert (await buyer.chat(**{"X-Deposit-Sats": "1000"})).status == 200
    estimate = (await Client(buyer.web.http, buyer.client.pay).send("POST", f"{buyer.web.url}{CHAT}", HELLO)).body[
        "error"
    ]["estimateSats"]
    url, charged = buyer.web.url, COST_SATS
    assert (await buyer.narrowed("route=/v1/models").send("GET", f"{url}{MODELS}")).status == 200
    assert (await buyer.narrowed("route=/v1/models").send("POST", f"{url}{CHAT}", HELLO)).status == 401
    assert (await buyer.narrowed("ip=10.0.0.1").send("GET", f"{url}{MODELS}")).status == 401
    assert (await buyer.narrowed("valid_until=1").send("GET", f"{url}{MODELS}")).status == 402
    exactly = buyer.narrowed(f"amount_sats={charged + estimate}")
    assert (await exactly.send("POST", f"{url}{CHAT}", HELLO)).status == 200
    over = await exactly.send("POST", f"{url}{CHAT}", HELLO)
    assert (over.status, over.challenged.token != buyer.client.paid[0].token) == (402, True)
    assert await buyer.balance() == 1000 - 2 * COST_SATS


async def test_only_the_whole_credential_claims_the_rest(buyer: Buyer) -> None:
    assert (await buyer.chat(**{"X-Deposit-Sats": "1000"})).status == 200
    close = f"{buyer.web.url}{SESSION}/close"
    back = {"destination": buyer.web.invoice(1000 - COST_SATS)}
    less = buyer.narrowed("amount_sats=999999")
    assert (await less.send("POST", close, back)).status == 401
    assert (await less.send("GET", f"{buyer.web.url}{SESSION}")).status == 401
    closed = await buyer.client.send("POST", close, back)
    assert (closed.status, closed.body["refundAmountSats"]) == (200, 1000 - COST_SATS), closed.body
    async with asyncio.timeout(PATIENCE_S):
        while (seen := await buyer.get(SESSION, once=True)).body["refundState"] != "paid":
            await asyncio.sleep(0.02)
    assert (seen.body["state"], buyer.web.sends(back["destination"])) == ("closed", 1)
    again = await buyer.chat(once=True)
    assert (again.status, again.challenged.token != buyer.client.paid[0].token) == (402, True)


async def test_after_its_time_the_rest_can_still_be_claimed(buyer: Buyer) -> None:
    gateway = buyer.web.gateway
    gateway.settings = gateway.settings.model_copy(update={"l402_valid_days": -1})
    assert (await buyer.get(MODELS)).status == 402
    back = {"destination": buyer.web.invoice(buyer.web.gateway.settings.l402_sats)}
    closed = await buyer.client.send("POST", f"{buyer.web.url}{SESSION}/close", back)
    assert closed.status == 200, closed.body
    async with asyncio.timeout(PATIENCE_S):
        while (await buyer.get(SESSION, once=True)).body["refundState"] != "paid":
            await asyncio.sleep(0.02)
    assert buyer.web.sends(back["destination"]) == 1


async def test_a_client_faster_than_the_settlement_is_let_in(buyer: Buyer) -> None:
    """The node's event never came: what LND says is booked when the credential is shown."""
    challenged = (await buyer.chat(once=True)).challenged
    payment_hash = bolt11.read(challenged.invoice).payment_hash
    streams, buyer.web.node._streams = buyer.web.node._streams, {}
    buyer.web.node.settle(payment_hash)
    buyer.web.node._streams = streams
    buyer.client.credential = f"{challenged.token}:{await buyer.preimage(challenged.invoice)}"
    assert (await buyer.chat(once=True)).status == 200


@pytest.mark.parametrize("token", ["AgE=", "AoA=", "AgI=", "Ag==", "=", "\u00e9", "%00"])
async def test_bytes_that_are_no_macaroon_are_401(buyer: Buyer, token: str) -> None:
    headers = {"Authorization": f"L402 {token}:{'0' * 64}".encode("latin-1", "replace").decode("latin-1")}
    for path in (MODELS, SESSION):
        answer = await buyer.client.send("GET", f"{buyer.web.url}{path}", **headers)
        assert answer.status == 401


async def test_what_is_left_of_an_idle_token_waits(buyer: Buyer) -> None:
    assert (await buyer.get(MODELS)).status == 200
    await buyer.web.gateway.pool.execute("update sessions set last_used_at = now() - interval '1 year'")
    buyer.web.gateway.session_wake.set()
    async with asyncio.timeout(PATIENCE_S):
        while (await buyer.get(SESSION, once=True)).body["state"] != "expired":
            await asyncio.sleep(0.02)
    told = await buyer.get(MODELS, once=True)
    assert (told.status, "Close it to take back what is left" in told.body["error"]["message"]) == (402, True)


async def test_a_node_that_is_away_gives_no_challenge_and_says_so(buyer: Buyer) -> None:
    buyer.web.node.go_unavailable()
    answer = await buyer.chat(once=True)
    assert (answer.status, answer.body["error"]["code"]) == (503, "node_unavailable")
    buyer.web.node.come_back()
    assert (await buyer.chat()).status == 200
    assert len(buyer.client.paid) == 1


async def test_a_challenge_that_can_no_more_be_paid_is_not_given_again(buyer: Buyer) -> None:
    first = (await buyer.chat(once=True)).challenged
    await buyer.web.gateway.pool.execute(
        "update invoices set planned_expires_at = planned_expires_at - $1::interval", timedelta(seconds=595)
    )
    assert (await buyer.chat(once=True)).challenged != first
