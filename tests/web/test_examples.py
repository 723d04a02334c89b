"""docs/examples, run as docs/integrator.md says: as programs of their own, against a gateway, paid by the fake node."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lightning import bolt11
from tests.gateways import free_port
from tests.known import OPERATOR
from tests.loud_model import loud_model_server, sell
from tests.web.conftest import Web

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
WAIT_S = 60


@pytest.fixture
def more_settings() -> dict[str, Any]:
    return {"operator_key": OPERATOR}


@dataclass
class Program:
    process: asyncio.subprocess.Process

    async def says(self, pattern: str) -> re.Match[str]:
        """The next line that it prints has this in it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            line = (await self.process.stdout.readline()).decode()
        found = re.search(pattern, line)
        assert found is not None, line + await self._rest()
        return found

    async def is_told(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        await self.process.stdin.drain()

    async def ends_well(self) -> None:
        async with asyncio.timeout(WAIT_S):
            assert await self.process.wait() == 0, await self._rest()

    async def _rest(self) -> str:
        assert self.process.stdout is not None
        return (await self.process.stdout.read()).decode()


@asynccontextmanager
async def run(web: Web, name: str, *args: str, **env: str) -> AsyncIterator[Program]:
    """The example as a program; errors are among what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / name),
        *args,
        env={**os.environ, "URL": web.url, **env},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def pay(web: Web, program: Program) -> bytes:
    """What it asks for; the preimage."""
    payment_hash = bolt11.read((await program.says(r"^Pay: (\S+)"))[1]).payment_hash
    web.node.settle(payment_hash)
    found = await web.gateway.pool.fetchval("select preimage from invoices where payment_hash = $1", payment_hash)
    return bytes(found)


async def test_a_job_with_its_refund(web: Web) -> None:
    async with run(web, "job.py", "echo", '{"cost": 30}', web.invoice(70)) as program:
        await program.says("At most 100 sats.")
        await pay(web, program)
        await program.says("^complete: .*echo")
        await program.says("^70 sats are yours")
        await program.says("^Refund: paid")
        await program.ends_well()


async def test_a_job_that_fails_is_owed_back(web: Web) -> None:
    async with run(web, "job.py", "echo", '{"fail": true}') as program:
        await program.says("At most 100 sats.")
        await pay(web, program)
        await program.says("^failed: ")
        await program.says("^100 sats are yours")
        await program.is_told(web.invoice(100))
        await program.says("Refund: paid")
        await program.ends_well()


async def test_a_session(web: Web) -> None:
    async with run(web, "session.py", "1000", "echo", '{"cost": 30}', web.invoice(970)) as program:
        await pay(web, program)
        await program.says("cost 30 sats, 970 are left")
        await program.says("^Refund: paid, 970 sats")
        await program.ends_well()


async def test_a_session_whose_balance_is_too_low(web: Web) -> None:
    async with run(web, "session.py", "50", "echo", "{}", web.invoice(50)) as program:
        await pay(web, program)
        await program.says("^balance_too_low: ")
        await program.says("^Refund: paid, 50 sats")
        await program.ends_well()


async def test_the_openai_client(web: Web) -> None:
    status, session = await web.call("POST", "/api/sessions", {"depositSats": 1000})
    assert status == 201
    web.pay(session)
    async with asyncio.timeout(WAIT_S):
        while (await web.call("GET", "/api/sessions/current", token=session["token"]))[1]["state"] != "active":
            await asyncio.sleep(0.02)
    async with loud_model_server() as upstream:
        sell(web.gateway, upstream.url)
        async with run(web, "chat.py", "loud", "say hello to me", TOKEN=session["token"]) as program:
            await program.says("^SAY HELLO TO ME")
            await program.says("It cost 6 sats, 994 are left")
            await program.ends_well()


async def test_l402(web: Web) -> None:
    async with loud_model_server() as upstream:
        sell(web.gateway, upstream.url)
        async with run(web, "l402.py", "loud", "say hello to me") as program:
            preimage = await pay(web, program)
            await program.is_told(preimage.hex())
            await program.says("SAY HELLO TO ME")
            await program.says(r"^\d+ sats are left on it: L402 ")
            await program.ends_well()


async def test_being_told(web: Web) -> None:
    port = free_port()
    hook = {"url": f"http://127.0.0.1:{port}/", "events": ["job.complete"]}
    status, made = await web.call("POST", "/api/operator/webhooks", hook, token=OPERATOR)
    assert status == 201, made
    async with run(web, "receive.py", SECRET=made["secret"], PORT=str(port)) as program:
        await program.says("^Listening")
        job = await web.paid({"cost": 30})
        await program.says(f"^job.complete {job['id']}")


def test_the_text_names_every_example() -> None:
    said = (EXAMPLES.parent / "integrator.md").read_text()
    programs = {path.name for path in EXAMPLES.glob("*.py")}
    assert programs == set(re.findall(r"\(examples/(\w+\.py)\)", said))
    assert len(programs) > 4
