"""pytest fixtures on a real regtest network: `regtest`, `payer`, `gateway_node`; `--stack=docker` for containers.

A session's network lives in a temporary directory and ends with the session, also if the session is killed; when a
test failed, its files (of containers, the logs) stay for a look. With `BOLTWORKS_REGTEST_DIR` set, the network there is
used and left running.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lightning.regtest.control import AsyncControl
    from lightning.regtest.network import Network


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("boltworks").addoption(
        "--stack",
        choices=("native", "docker"),
        default="native",
        help="what the regtest network is made of: native processes, or containers by regtest-compose.yml",
    )


@pytest.fixture(scope="session")
def regtest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A running network (`lightning.regtest.network.Network`): stop, start, kill, pause, mine, access."""
    from lightning.regtest.docker.stack import DockerNetwork
    from lightning.regtest.network import open_network
    from lightning.regtest.processes import myself

    docker = request.config.getoption("--stack") == "docker"
    if named := os.environ.get("BOLTWORKS_REGTEST_DIR"):
        network = open_network(Path(named), docker=docker)
        network.up()
        yield network
        return
    network = open_network(tmp_path_factory.mktemp("regtest"), docker=docker)
    try:
        network.up(owner=myself())
        yield network
    finally:
        failed = bool(request.session.testsfailed)
        if failed and isinstance(network, DockerNetwork) and network.is_running():
            network.keep_logs(network.directory.with_name("stack-logs"))
        network.down(purge=docker or not failed)


@pytest.fixture(scope="session")
def payer(regtest: Network) -> Iterator[AsyncControl]:
    """The second node: pays, issues invoices, holds payments. Coroutine methods, for any event loop."""
    control = regtest.async_control("payer")
    yield control
    control.close()


@pytest.fixture(scope="session")
def gateway_node(regtest: Network) -> Iterator[AsyncControl]:
    """The gateway's own node, by its admin macaroon."""
    control = regtest.async_control("gateway")
    yield control
    control.close()
