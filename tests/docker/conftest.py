"""The stack itself: its gateway in containers, and the hand on them. Only with --stack=docker."""

from __future__ import annotations

import aiohttp
import pytest

from lightning.regtest.docker.stack import DockerNetwork
from lightning.regtest.network import Network
from tests.gateways import Buyer


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> DockerNetwork:
    if request.config.getoption("--stack") != "docker":
        pytest.skip("about containers: run with --stack=docker")
    network: Network = request.getfixturevalue("regtest")
    assert isinstance(network, DockerNetwork)
    return network


@pytest.fixture
def shop(http: aiohttp.ClientSession, stack: DockerNetwork) -> Buyer:
    """A client of the stack's own gateway."""
    return Buyer(http, stack.access.gateway_url)
