"""The stack as it stands: healthy, private, on loopback, gone without a trace; and it sells."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from lightning.regtest.control import AsyncControl
from lightning.regtest.docker.client import docker
from lightning.regtest.docker.compose import Compose, ensure_compose
from lightning.regtest.docker.images import REPOSITORY
from lightning.regtest.docker.stack import COMPOSE_FILE, SERVICES, DockerNetwork
from lightning.regtest.errors import RegtestError
from lightning.regtest.network import open_network
from lightning.regtest.processes import born
from lightning.regtest.progress import Progress
from lightning.regtest.state import ProcessId
from tests.conftest import assert_books_right
from tests.gateways import Buyer
from tests.waiting import PATIENCE_S

PDF = "markdown-pdf"
TEXT = {"markdown": "# Hello\n\n" + "A paragraph of some length. " * 60, "title": "Hello"}
GONE_WITHIN_S = 60


def inspect(stack: DockerNetwork, service: str) -> dict[str, Any]:
    (seen,) = json.loads(docker("inspect", stack.containers.name(service)))
    return dict(seen)


async def test_a_job_is_sold_worked_and_refunded_by_the_stack(
    stack: DockerNetwork, shop: Buyer, payer: AsyncControl
) -> None:
    before = await payer.settled_balance_msat()
    job = await shop.buy(PDF, TEXT)
    assert (await payer.pay(job["invoice"]["paymentRequest"])).succeeded
    done = await shop.until(job, state="complete", refundState="pending")
    assert done["result"]["mediaType"] == "application/pdf"
    owed = done["refundAmountSats"]
    assert (await shop.refund(job, await payer.invoice(owed)))[0] == 202
    await shop.until(job, refundState="paid", refundAmountSats=owed)
    assert before - await payer.settled_balance_msat() == done["userChargeSats"] * 1000
    await assert_books_right(stack.access.database_url)
    conn = await asyncpg.connect(stack.access.database_url)
    async with asyncio.timeout(PATIENCE_S):
        while not await conn.fetchval("select settle_index from watcher_cursor"):
            await asyncio.sleep(0.1)  # the watcher has delivered, from a container of its own
    await conn.close()
    assert docker("exec", stack.containers.name("gateway"), "boltworks", "audit").endswith("the books are right")


def test_compose_shows_every_service_healthy(stack: DockerNetwork) -> None:
    stack.containers.wait_healthy(SERVICES, 60)
    compose = Compose(ensure_compose(Progress(quiet=True)), COMPOSE_FILE, stack.docker.project, dict(os.environ))
    listed = [json.loads(line) for line in compose.run("ps", "--all", "--format", "json").splitlines()]
    assert {one["Service"]: one["Health"] for one in listed if one["State"] == "running"} == dict.fromkeys(
        SERVICES, "healthy"
    )
    assert {one["ExitCode"] for one in listed if one["State"] != "running"} == {0}
    assert stack.is_running()


def test_the_compose_file_is_clean_without_any_setting() -> None:
    bare = {name: value for name, value in os.environ.items() if "IMAGE" not in name and "REGTEST" not in name}
    assert Compose(ensure_compose(Progress(quiet=True)), COMPOSE_FILE, "any", bare).run("config", "--quiet") == ""


def test_every_port_is_on_loopback(stack: DockerNetwork) -> None:
    published = [
        (service, binding["HostIp"])
        for service in SERVICES
        for bindings in inspect(stack, service)["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    ]
    assert {service for service, _ in published} == {"bitcoind", "lnd-gateway", "lnd-payer", "postgres", "gateway"}
    assert {address for _, address in published} == {"127.0.0.1"}


def test_secrets_are_private_and_told_to_no_engine(stack: DockerNetwork) -> None:
    """Neither on command lines nor in environments, both of which `docker inspect` shows."""
    access = stack.access
    password = access.database_url.split(":")[2].split("@")[0]
    kept = [path.read_text() for path in (stack.directory / "secrets").iterdir()]
    assert password in kept
    told = "".join(json.dumps(inspect(stack, service)) for service in SERVICES)
    for secret in (*kept, stack.state.rpc_password):
        assert len(secret) > 30
        assert secret not in told
    assert stat.S_IMODE(stack.directory.stat().st_mode) == 0o700
    files = [path for path in stack.directory.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


@pytest.mark.parametrize("service", SERVICES)
def test_nobody_is_root_and_no_root_file_system_is_written(stack: DockerNetwork, service: str) -> None:
    seen = inspect(stack, service)
    assert seen["HostConfig"]["ReadonlyRootfs"]
    assert seen["HostConfig"]["CapDrop"] == ["ALL"]
    if not seen["Config"]["Image"].startswith(REPOSITORY):
        pytest.skip("an image that was named, with users of its own")
    users = docker("top", stack.containers.name(service), "-eo", "pid,uid").split()[3::2]
    assert users
    assert "0" not in users


def test_the_watcher_holds_nothing_but_its_own(stack: DockerNetwork) -> None:
    files = "import os; print(*sorted(os.listdir('/run/boltworks')))"
    listed = docker("exec", stack.containers.name("watcher"), "python3", "-c", files)
    assert listed.split() == ["database_url", "lnd.macaroon", "tls.cert", "webhook_secret"]


def test_a_directory_keeps_its_kind(stack: DockerNetwork, tmp_path: Path) -> None:
    assert isinstance(open_network(stack.directory), DockerNetwork)
    native = open_network(tmp_path / "other")
    assert not isinstance(native, DockerNetwork)
    with pytest.raises(RegtestError, match="regtest up"):
        _ = native.state


@pytest.fixture
def second(tmp_path: Path) -> Iterator[DockerNetwork]:
    """Another stack beside the session's."""
    network = open_network(tmp_path / "second", docker=True)
    assert isinstance(network, DockerNetwork)
    yield network
    network.down(purge=True)


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when it is told a line."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process


def left_of(project: str) -> str:
    label = f"label=com.docker.compose.project={project}"
    return "".join(
        docker(*kind, "--quiet", "--filter", label)
        for kind in (("container", "ls", "--all"), ("volume", "ls"), ("network", "ls"))
    )


async def test_two_stacks_side_by_side_and_one_ends_with_its_owner(
    stack: DockerNetwork, second: DockerNetwork, owner: subprocess.Popen[bytes]
) -> None:
    await asyncio.to_thread(second.up, owner=ProcessId(owner.pid, born(owner.pid) or ""))
    project, ports = second.docker.project, second.state.ports
    assert project != stack.docker.project
    assert left_of(project)
    assert await asyncio.to_thread(second.down)
    assert not second.is_running()
    await asyncio.to_thread(second.up)
    assert (second.docker.project, second.state.ports) == (project, ports)
    request = second.control("gateway").invoice(5)
    assert second.control("payer").pay(request).succeeded
    owner.communicate(b"\n")
    async with asyncio.timeout(GONE_WITHIN_S):
        while second.directory.exists() or left_of(project):
            await asyncio.sleep(0.2)
    assert stack.is_running()
