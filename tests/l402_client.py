"""An L402 client that knows the specification and nothing of this gateway."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

Pay = Callable[[str], Awaitable[str]]
"""Pays a BOLT11 invoice; the preimage, in hex."""


@dataclass(frozen=True)
class Challenged:
    token: str
    invoice: str


def parse(header: str) -> Challenged:
    """`L402 version="0", token="…", invoice="…"`; parameters that it does not know are ignored."""
    scheme, _, rest = header.partition(" ")
    assert scheme == "L402", header
    said = dict(re.findall(r'([a-z]+)="([^"]*)"', rest))
    assert said["version"] == "0"
    return Challenged(said.get("token") or said["macaroon"], said["invoice"])


@dataclass
class Answer:
    status: int
    body: Any
    headers: Any

    @property
    def challenged(self) -> Challenged:
        assert self.status == 402, self.body
        return parse(self.headers["WWW-Authenticate"])


@dataclass
class Client:
    http: aiohttp.ClientSession
    pay: Pay
    credential: str | None = None
    scheme: str = "L402"
    paid: list[Challenged] = field(default_factory=list)

    async def send(self, method: str, url: str, body: Any = None, **headers: str) -> Answer:
        """Once, with what it has."""
        sent = dict(headers)
        if self.credential is not None:
            sent["Authorization"] = f"{self.scheme} {self.credential}"
        async with self.http.request(method, url, json=body, headers=sent) as response:
            return Answer(response.status, await response.json(content_type=None), response.headers)

    async def ask(self, method: str, url: str, body: Any = None, **headers: str) -> Answer:
        """As the specification says: pays what is asked for, and asks again."""
        answer = await self.send(method, url, body, **headers)
        if answer.status != 402:
            return answer
        challenged = answer.challenged
        self.paid.append(challenged)
        self.credential = f"{challenged.token}:{await self.pay(challenged.invoice)}"
        return await self.send(method, url, body, **headers)
