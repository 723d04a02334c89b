"""A thousand open pages on one process: what they take, and that every one of them sees its change."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.gateways import Buyer, GatewayProcess

JOBS, EACH = 50, 20
MAX_MIB = 150


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024


@pytest.mark.native
async def test_a_thousand_open_pages(running_gateway: GatewayProcess, buyer: Buyer) -> None:
    jobs = [await buyer.buy("echo", {"n": number}) for number in range(JOBS)]
    waiting = asyncio.Semaphore(0)
    told = 0

    async def page(http: aiohttp.ClientSession, job: dict[str, Any]) -> None:
        """Open until its job has expired."""
        nonlocal told
        headers = {"Authorization": f"Bearer {job['token']}"}
        async with http.get(f"{running_gateway.url}/api/jobs/{job['id']}/events", headers=headers) as response:
            async for line in response.content:
                if line.startswith(b"data: "):
                    state = json.loads(line[6:])["state"]
                    if state == "expired":
                        told += 1
                        return
                    waiting.release()
        raise AssertionError("a page's stream ended before its change")

    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        ) as http,
        asyncio.timeout(180),
        asyncio.TaskGroup() as pages,
    ):
        for job in jobs:
            for _ in range(EACH):
                pages.create_task(page(http, job))
        for _ in range(JOBS * EACH):
            await waiting.acquire()
        assert running_gateway.process is not None
        taken_mib = resident_mib(running_gateway.process.pid)
        for job in jobs:
            status, seen = await buyer.call("POST", f"/api/jobs/{job['id']}/cancel", token=job["token"])
            assert (status, seen["state"]) == (200, "expired")
    assert told == JOBS * EACH
    assert taken_mib < MAX_MIB
