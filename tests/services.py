"""The operator's own service, as a test plays it: an HTTP worker on loopback that does what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web


@dataclass
class WorkService:
    """Answers each order by `input.cost` sats, fails on `input.fail`, waits for `release` on `input.hold`."""

    url: str = ""
    orders: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    looks: list[dict[str, Any]] = field(default_factory=list)
    looked: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, request: web.Request) -> web.Response:
        order = await request.json()
        self.orders.append(order)
        self.keys.append(request.headers.get("Idempotency-Key", ""))
        self.arrived.set()
        if order["input"].get("hold"):
            await self.release.wait()
        if order["input"].get("fail"):
            return web.json_response({"error": "no"}, status=500)
        return web.json_response({"result": {"echo": order["input"]}, "costSats": order["input"].get("cost", 1)})

    async def evaluate(self, request: web.Request) -> web.Response:
        """Answers `input.verdict` as it stands; waits for `release` on `input.holdLook`, fails without a verdict."""
        question = await request.json()
        self.looks.append(question)
        self.looked.set()
        if question["input"].get("holdLook"):
            await self.release.wait()
        if "verdict" not in question["input"]:
            return web.json_response({"error": "no"}, status=500)
        return web.json_response(question["input"]["verdict"])

    def catalogue(self, path: Path, estimate_sats: int = 100) -> Path:
        path.write_text(
            f"""
[pool]
share_of_revenue = 0.05
[[tier]]
name = "new"
min_paid_sats = 0
daily_limit_sats = 0
pool_share = 0.0
[[tier]]
name = "half"
min_paid_sats = 1000
daily_limit_sats = 1000
pool_share = 0.5
[[tier]]
name = "all"
min_paid_sats = 100000
daily_limit_sats = 1000
pool_share = 1.0
[[work]]
name = "echo"
title = "Echo"
worker = "http"
url = "{self.url}"
price = {{ estimate_sats = {estimate_sats} }}
[[work]]
name = "looked-at"
worker = "http"
url = "{self.url}"
evaluation = {{ fee_sats = 10, url = "{self.url.replace("/run", "/evaluate")}" }}
price = {{ estimate_sats = {estimate_sats} }}
[[work]]
name = "looked-at-free"
worker = "http"
url = "{self.url}"
evaluation = {{ fee_sats = 0, url = "{self.url.replace("/run", "/evaluate")}" }}
price = {{ estimate_sats = {estimate_sats} }}
[[work]]
name = "markdown-pdf"
title = "Markdown to PDF"
worker = "pdf"
price = {{ per_page_sats = 10 }}
"""
        )
        return path


@asynccontextmanager
async def work_service() -> AsyncIterator[WorkService]:
    service = WorkService()
    app = web.Application()
    app.router.add_post("/run", service.run)
    app.router.add_post("/evaluate", service.evaluate)
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    service.url = f"http://{host}:{port}/run"
    try:
        yield service
    finally:
        service.release.set()
        await runner.cleanup()
