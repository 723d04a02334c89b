"""A buyer whom the operator knows by a Nostr key, on a gateway whose operator's key the test has."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from tests.gateways import Buyer
from tests.nostr import Signer, header

OPERATOR = "an operator key of tests"


@dataclass
class Known(Buyer):
    """Signs what it buys."""

    signer: Signer = field(default_factory=lambda: Signer(21))

    async def operator(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = await self.call(method, f"/api/operator/{path}", body, token=OPERATOR)
        assert status == 200, answer
        return answer

    async def rank(self, tier: str) -> None:
        await self.operator("PUT", f"identities/{self.signer.pubkey}", {"tier": tier})

    async def sign(self, path: str, body: Any) -> dict[str, Any]:
        """A signed POST that makes something."""
        raw = json.dumps(body).encode()
        event = self.signer.call("POST", f"{self.url}{path}", raw, content=secrets.token_hex(8))
        headers = header(event) | {"Content-Type": "application/json"}
        async with self.http.post(f"{self.url}{path}", data=raw, headers=headers) as response:
            made = await response.json()
            assert response.status == 201, made
            return dict(made)


CURRENT = "/api/sessions/current"


@dataclass
class Holder(Known):
    """Whoever has a session's tokens."""

    session: dict[str, Any] = field(default_factory=dict)

    async def open(self, sats: int) -> dict[str, Any]:
        """Under its signature."""
        self.session = await self.sign("/api/sessions", {"depositSats": sats})
        return self.session

    async def own(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return await self.call(method, f"{CURRENT}{path}", body, token=self.session["token"])

    async def ask(self, work_input: dict[str, Any], work: str = "echo") -> tuple[int, Any]:
        return await self.own("POST", "/requests", {"work": work, "input": work_input})

    async def reaches(self, timeout_s: float = 60, **wanted: Any) -> dict[str, Any]:
        seen: Any = None
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    _, seen = await self.own("GET", "")
                    if all(seen.get(name) == value for name, value in wanted.items()):
                        return dict(seen)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"wanted {wanted}, last seen {seen}") from None

    async def statement(self) -> dict[str, Any]:
        status, said = await self.own("GET", "/statement?limit=1000")
        assert status == 200, said
        assert [item["number"] for item in said["items"]] == list(range(1, len(said["items"]) + 1))
        left = said["paidInSats"] - said["chargedSats"] - said["refundedSats"]
        assert left == said["balanceSats"] + said["heldSats"]
        return dict(said)
