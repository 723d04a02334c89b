"""Shared parts: one embedded PostgreSQL per run, a fresh database per test, and the books checked after each."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, unquote, urlsplit

import aiohttp
import asyncpg
import hypothesis
import pytest
import pytest_asyncio

from gateway.audit import all_invariants
from gateway.database import migrate_database
from ledger.audit import find_violations
from ledger.database import Pool, open_pool
from ledger.embedded import EmbeddedPostgres, embedded_postgres
from ledger.embedded.postmaster import is_alive
from lightning.regtest.docker.stack import DockerNetwork
from lightning.regtest.network import Network
from tests.gateways import IMAGE_VARIABLE, Buyer, GatewayProcess, gateway_process
from tests.services import WorkService, work_service

hypothesis.settings.register_profile(
    "boltworks", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("boltworks")
FOLDER = "boltworks-test"
MEMORY = Path("/dev/shm")
ROOM_BYTES = 2 << 30
"""A server of the tests takes 0.2 GiB, and one stands beside each worker."""
_numbers = itertools.count()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long ones first, so that no worker ends alone; with --stack=docker without those about native processes."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    if config.getoption("--stack") != "docker":
        return
    native = [item for item in items if item.get_closest_marker("native")]
    config.hook.pytest_deselected(items=native)
    items[:] = [item for item in items if item not in native]


@dataclass(frozen=True)
class StackPostgres:
    """PostgreSQL of a stack of containers, with what a test asks of the embedded one."""

    connect_kwargs: dict[str, Any]

    @property
    def superuser_connect_kwargs(self) -> dict[str, Any]:
        return self.connect_kwargs


Server: TypeAlias = EmbeddedPostgres | StackPostgres


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A real PostgreSQL for the whole run: embedded, or with --stack=docker the stack's."""
    yield from _stack_postgres(request) if request.config.getoption("--stack") == "docker" else _embedded_postgres()


def _stack_postgres(request: pytest.FixtureRequest) -> Iterator[StackPostgres]:
    """From here on gateways of tests run in containers of the stack's image, too."""
    network: DockerNetwork = request.getfixturevalue("regtest")
    parts = urlsplit(network.access.database_url)
    server = StackPostgres(
        {
            "host": parts.hostname,
            "port": parts.port,
            "user": parts.username,
            "password": unquote(parts.password or ""),
            "database": parts.path[1:],
        }
    )
    asyncio.run(_make_template(server))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(IMAGE_VARIABLE, network.images.gateway)
        yield server


def _embedded_postgres() -> Iterator[EmbeddedPostgres]:
    """BOLTWORKS_TEST_KEEP=1 leaves its folder for a look."""
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}-{os.getpid()}-", dir=_quick_folder()))
    with asyncio.Runner() as runner:
        server_context = embedded_postgres(folder)
        server = runner.run(server_context.__aenter__())
        try:
            runner.run(_make_template(server))
            yield server
        finally:
            runner.run(server_context.__aexit__(None, None, None))
            if not os.environ.get("BOLTWORKS_TEST_KEEP"):
                shutil.rmtree(folder, ignore_errors=True)


def _quick_folder() -> Path | None:
    """Memory, where there is room: a database per test is 10 MB of files and syncs; no test cuts the power.

    Processes may be killed there as elsewhere. Servers of a test's own lie on the disk. None: the usual place.
    """
    if os.environ.get("BOLTWORKS_TEST_KEEP") or not MEMORY.is_dir() or not os.access(MEMORY, os.W_OK):
        return None
    _forget_killed_runs()
    return MEMORY if shutil.disk_usage(MEMORY).free > ROOM_BYTES else None


def _forget_killed_runs() -> None:
    """A run that was killed could not tidy up, and memory is dearer than the disk."""
    for left in MEMORY.glob(f"{FOLDER}-*-*"):
        if not is_alive(int(left.name.split("-")[2])):
            shutil.rmtree(left, ignore_errors=True)


def database_dsn(server: Server, name: str) -> str:
    kwargs = server.connect_kwargs
    port = f"&port={kwargs['port']}" if "port" in kwargs else ""
    user, password, host = kwargs["user"], quote(kwargs["password"], safe=""), quote(kwargs["host"])
    return f"postgresql://{user}:{password}@/{name}?host={host}{port}"


async def _make_template(server: Server) -> None:
    admin = await asyncpg.connect(**{**server.superuser_connect_kwargs, "database": "postgres"})
    role = server.connect_kwargs["user"]
    await admin.execute("drop database if exists template_migrated with (force)")
    await admin.execute(f'create database template_migrated owner "{role}"')
    await admin.close()
    await migrate_database(database_dsn(server, "template_migrated"))


@pytest_asyncio.fixture
async def empty_dsn(postgres: Server) -> AsyncIterator[str]:
    """A database without anything in it."""
    async for dsn in _new_database(postgres, "template0"):
        yield dsn


@pytest_asyncio.fixture
async def dsn(postgres: Server) -> AsyncIterator[str]:
    """A migrated database of this test's own; its books are checked when the test is over."""
    async for name in _new_database(postgres, "template_migrated"):
        await _give_own_id(name)
        yield name
        await assert_books_right(name)


async def _new_database(postgres: Server, template: str) -> AsyncIterator[str]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    admin = await asyncpg.connect(**{**postgres.superuser_connect_kwargs, "database": "postgres"})
    role = postgres.connect_kwargs["user"]
    try:
        # Copied as files: half the time of the default, which logs each block.
        await admin.execute(f'create database {name} template {template} strategy file_copy owner "{role}"')
        yield database_dsn(postgres, name)
        await admin.execute(f"drop database {name} with (force)")
    finally:
        await admin.close()


@pytest_asyncio.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    async with open_pool(dsn, min_size=1, max_size=16) as opened:
        yield opened


async def _give_own_id(dsn: str) -> None:
    """A copy of the template is a database of its own: its id stands in the memo of every invoice it opens."""
    conn = await asyncpg.connect(dsn)
    new_id = "encode(substring(sha256(uuid_send(gen_random_uuid())) for 8), 'hex')"
    await conn.execute(f"update installation set id = {new_id}")  # noqa: S608
    await conn.close()


async def assert_books_right(dsn: str) -> None:
    """Every invariant of the books holds."""
    conn = await asyncpg.connect(dsn)
    try:
        violations = await find_violations(conn, all_invariants())
    finally:
        await conn.close()
    assert violations == []


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest_asyncio.fixture
async def service() -> AsyncIterator[WorkService]:
    """The operator's own HTTP service behind the work `echo`."""
    async with work_service() as running:
        yield running


@pytest_asyncio.fixture
async def running_gateway(
    regtest: Network, dsn: str, service: WorkService, tmp_path: Path
) -> AsyncIterator[GatewayProcess]:
    """`boltworks serve` on real nodes, with the demo wallet; `.url`, `.env`, kill, stop, start."""
    settings = {
        **regtest.access.settings(),
        "BOLTWORKS_DEMO_WALLET": "true",
        "BOLTWORKS_CONFIG": str(service.catalogue(tmp_path / "boltworks.toml")),
    }
    async with gateway_process(tmp_path, dsn, settings) as gateway:
        yield gateway


@pytest.fixture
def buyer(http: aiohttp.ClientSession, running_gateway: GatewayProcess) -> Buyer:
    return Buyer(http, running_gateway.url)
