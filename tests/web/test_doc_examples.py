"""The examples of docs/ run as they stand there."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lightning import bolt11
from lightning.regtest.ports import choose_ports
from tests.known import OPERATOR
from tests.loud_model import loud_model_server, sell
from tests.waiting import PATIENCE_S
from tests.web.conftest import Web

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture
def more_settings() -> dict[str, Any]:
    return {"operator_key": OPERATOR}


@asynccontextmanager
async def running(name: str, *args: str, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / name), *args),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **env},
    )
    try:
        async with asyncio.timeout(60):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def test_a_job_is_bought(web: Web) -> None:
    async with running("buy_a_job.py", "echo", '{"cost": 30}', BOLTWORKS_URL=web.url) as process:
        invoice = (await line(process)).removeprefix("Pay this: ")
        assert await line(process) == "awaiting_work_payment"
        web.node.settle(bolt11.read(invoice).payment_hash)
        said = [await line(process)]
        while said[-1] != "complete":
            said.append(await line(process))
        assert await line(process) == '{"echo": {"cost": 30}}'
        assert (await line(process)).startswith("It cost 30 sats; 70 sats are owed back:")


async def settle(web: Web, process: asyncio.subprocess.Process) -> None:
    """The invoice that it prints."""
    invoice = (await line(process)).removeprefix("Pay this: ")
    web.node.settle(bolt11.read(invoice).payment_hash)


async def tell(process: asyncio.subprocess.Process, words: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{words}\n".encode())
    await process.stdin.drain()


async def test_a_session_is_used_and_closed(web: Web) -> None:
    async with running("session.py", "1000", "echo", '{"cost": 30}', BOLTWORKS_URL=web.url) as process:
        await settle(web, process)
        assert await line(process) == '{"echo": {"cost": 30}}'
        assert await line(process) == "It cost 30 sats; 970 are left."
        await tell(process, web.invoice(970))
        assert await line(process) == "The rest goes to: 970 sats went back."


async def test_a_session_with_too_little_says_so(web: Web) -> None:
    async with running("session.py", "50", "echo", "{}", BOLTWORKS_URL=web.url) as process:
        await settle(web, process)
        assert (await line(process)).startswith("balance_too_low: ")
        await tell(process, web.invoice(50))
        assert await line(process) == "The rest goes to: 50 sats went back."


async def _funded(web: Web) -> str:
    """The token of a session with 1,000 sats."""
    status, session = await web.call("POST", "/api/sessions", {"depositSats": 1000})
    assert status == 201
    web.pay(session)
    async with asyncio.timeout(PATIENCE_S):
        while (await web.call("GET", "/api/sessions/current", token=session["token"]))[1]["state"] != "active":
            await asyncio.sleep(0.02)
    return str(session["token"])


async def test_a_model_is_asked_through_the_openai_client(web: Web) -> None:
    async with loud_model_server() as upstream:
        sell(web.gateway, upstream.url)
        env = {"BOLTWORKS_URL": web.url, "TOKEN": await _funded(web)}
        async with running("chat.py", "loud", "say hello to me", **env) as process:
            assert await line(process) == "SAY HELLO TO ME"
            assert await line(process) == "It cost 6 sats; 994 are left."


def test_every_example_is_named() -> None:
    said = (EXAMPLES.parent / "integrator.md").read_text()
    assert all(f"(examples/{path.name})" in said for path in EXAMPLES.glob("*.py"))


async def test_a_model_is_asked_and_paid_on_the_way(web: Web) -> None:
    async with loud_model_server() as upstream:
        sell(web.gateway, upstream.url)
        async with running("l402.py", "loud", "say hello", BOLTWORKS_URL=web.url) as process:
            invoice = (await line(process)).removeprefix("Pay this: ")
            payment_hash = bolt11.read(invoice).payment_hash
            web.node.settle(payment_hash)
            known = "select preimage from invoices where payment_hash = $1"
            preimage = bytes(await web.gateway.pool.fetchval(known, payment_hash))
            assert process.stdin is not None
            process.stdin.write(f"{preimage.hex()}\n".encode())
            assert (await line(process)).removeprefix("Its preimage: ") == "SAY HELLO"


async def test_events_are_heard(web: Web) -> None:
    (port,) = choose_ports(1)
    hook = {"url": f"http://127.0.0.1:{port}/", "events": ["job.awaiting_work_payment"]}
    status, made = await web.call("POST", "/api/operator/webhooks", hook, token=OPERATOR)
    assert status == 201
    async with running("webhook_receiver.py", str(port), WEBHOOK_SECRET=made["secret"]) as process:
        job = await web.buy("echo", {})
        await _until_listening(port)
        await web.gateway.pool.execute("update webhook_deliveries set next_attempt_at = now()")
        heard = await line(process)
        assert heard.startswith("job.awaiting_work_payment")
        assert job["id"] in heard


async def _until_listening(port: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return
