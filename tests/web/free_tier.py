"""What tests of the free tier do: fund the pool, rank somebody, buy under a signature."""

from __future__ import annotations

import json
import secrets
from typing import Any

from tests.nostr import Signer, header
from tests.web.conftest import Web

ALICE = Signer(11)


async def operator(web: Web, method: str, path: str, body: Any = None) -> Any:
    key = web.gateway.settings.operator_key.get_secret_value()
    status, answer = await web.call(method, f"/api/operator/{path}", body, token=key)
    assert status == 200, answer
    return answer


async def fund(web: Web, sats: int) -> None:
    await operator(web, "POST", "pool/topups", {"amountSats": sats})


async def rank(web: Web, tier: str, who: Signer = ALICE) -> None:
    await operator(web, "PUT", f"identities/{who.pubkey}", {"tier": tier})


async def signed(web: Web, method: str, path: str, body: Any = None, *, who: Signer = ALICE) -> tuple[int, Any]:
    raw = b"" if body is None else json.dumps(body).encode()
    # Two events of one second would be the same one: the content tells them apart.
    headers = header(who.call(method, f"{web.url}{path}", raw, content=secrets.token_hex(8)))
    if raw:
        headers["Content-Type"] = "application/json"
    async with web.http.request(method, f"{web.url}{path}", data=raw or None, headers=headers) as response:
        return response.status, await response.json(content_type=None)


async def buy_as(web: Web, who: Signer, work: str, work_input: dict[str, Any]) -> dict[str, Any]:
    status, job = await signed(web, "POST", "/api/jobs", {"work": work, "input": work_input}, who=who)
    assert status == 201, job
    return dict(job)


async def pool_now(web: Web) -> tuple[int, int, int]:
    _, pool = await web.call("GET", "/api/pool")
    return pool["balanceSats"], pool["reservedSats"], pool["absorbedTodaySats"]
