"""A whole gateway as its own process, as an operator starts it; what tests of real nodes and the browser use."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from lightning.regtest.docker.client import docker
from lightning.regtest.envfile import render
from lightning.regtest.ports import choose_ports
from lightning.regtest.state import write_private
from tests.waiting import PATIENCE_S

START_TIMEOUT_S = 60
IMAGE_VARIABLE = "BOLTWORKS_TEST_IMAGE"
"""Set by the fixtures of a docker run: gateways of tests are containers of it."""


def free_port() -> int:
    return choose_ports(1)[0]


@dataclass
class GatewayProcess:
    """`boltworks serve` (or another command) with its environment; killed and started again as a test likes."""

    folder: Path
    env: dict[str, str]
    dsn: str
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None
    container: str | None = None
    """The name of the one that runs, if it is a container."""
    module: str = "gateway"
    """Run with `-m`; a launcher of the tests may stand before it."""
    image: str | None = None
    """With one, `gateway` runs in a container of it, on this machine's network."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "gateway.log"

    async def start(self, *args: str, ready: bool = True) -> None:
        contained = self.image is not None and self.module == "gateway"
        self.container = f"boltworks-test-{secrets.token_hex(6)}" if contained else None
        command = self._container_command() if contained else (sys.executable, "-m", self.module)
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command,
                *(args or ("serve",)),
                env=self._env(),
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        if ready:
            await self.wait_ready()

    def _container_command(self) -> tuple[str, ...]:
        """As a child that ends with its container, told its settings in a file that only we can read."""
        assert self.image is not None
        assert self.container is not None
        wanted = {name: value for name, value in self._env().items() if name.startswith(("BOLTWORKS_", "REGTEST_"))}
        env_file = self.folder / f"{self.container}.env"
        write_private(env_file, render(wanted))
        mounted = {self.folder.parent, self.folder, *filter(None, [wanted.get("BOLTWORKS_REGTEST_DIR")])}
        return (
            *("docker", "run", "--rm", "--name", self.container, "--network", "host", "--env-file", str(env_file)),
            *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--user", f"{os.getuid()}:{os.getgid()}"),
            *(word for path in sorted(map(str, mounted)) for word in ("--volume", f"{path}:{path}")),
            *("--workdir", str(self.folder), self.image),
        )

    def _env(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BOLTWORKS_")}
        return {**inherited, **self.env, "BOLTWORKS_LISTEN": f"127.0.0.1:{self.port}"}

    async def wait_ready(self) -> None:
        async with asyncio.timeout(START_TIMEOUT_S), aiohttp.ClientSession() as http:
            while True:
                assert self.process is not None
                assert self.process.returncode is None, self.log.read_text()[-4000:]
                try:
                    async with http.get(f"{self.url}/readyz") as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """SIGKILL: nothing is tidied up."""
        assert self.process is not None
        if self.container is not None:
            # The child is docker's client only: SIGKILL would leave the gateway running.
            await asyncio.to_thread(docker, "kill", self.container)
        else:
            self.process.kill()
        await self.process.wait()

    async def stop(self, timeout_s: float = 12) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(timeout_s):
            return await self.process.wait()


@asynccontextmanager
async def gateway_process(
    folder: Path, dsn: str, settings: Mapping[str, str], *, start: bool = True
) -> AsyncIterator[GatewayProcess]:
    env = {
        "BOLTWORKS_DATA_DIR": str(folder / "data"),
        "BOLTWORKS_DATABASE_URL": dsn,
        "BOLTWORKS_SWEEP_INTERVAL_S": "1",
        "BOLTWORKS_LEASE_S": "6",
        **settings,
    }
    gateway = GatewayProcess(folder, env, dsn, image=os.environ.get(IMAGE_VARIABLE))
    if start:
        await gateway.start()
    try:
        yield gateway
    finally:
        if gateway.process is not None and gateway.process.returncode is None:
            await gateway.stop()


@dataclass
class Buyer:
    """A client of the public API."""

    http: aiohttp.ClientSession
    url: str

    async def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, headers: Mapping[str, str] = {}
    ) -> tuple[int, Any]:
        sent = {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}
        async with self.http.request(method, f"{self.url}{path}", json=body, headers=sent) as response:
            return response.status, await response.json(content_type=None)

    async def buy(self, work: str, work_input: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        status, job = await self.call("POST", "/api/jobs", {"work": work, "input": work_input, **more})
        assert status == 201, job
        return dict(job)

    async def job(self, job: Mapping[str, Any]) -> dict[str, Any]:
        status, body = await self.call("GET", f"/api/jobs/{job['id']}", token=job["token"])
        assert status == 200, body
        return dict(body)

    async def refund(self, job: Mapping[str, Any], destination: str) -> tuple[int, Any]:
        return await self.call(
            "POST", f"/api/jobs/{job['id']}/refund", {"destination": destination}, token=job["token"]
        )

    async def until(self, job: Mapping[str, Any], timeout_s: float = PATIENCE_S, **wanted: Any) -> dict[str, Any]:
        """Poll until the job has these members, whatever happens to the gateway meanwhile."""
        seen: Any = None
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        seen = await self.job(job)
                    except (aiohttp.ClientError, AssertionError):
                        seen = None
                    if seen is not None and all(seen.get(name) == value for name, value in wanted.items()):
                        return dict(seen)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"wanted {wanted}, last seen {seen}") from None
