"""A gateway on real nodes whose operator's key the test has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from lightning.regtest.network import Network
from tests.gateways import GatewayProcess, gateway_process
from tests.known import OPERATOR
from tests.services import WorkService


@pytest_asyncio.fixture
async def gateway(regtest: Network, dsn: str, service: WorkService, tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    settings = {
        **regtest.access.settings(),
        "BOLTWORKS_OPERATOR_KEY": OPERATOR,
        "BOLTWORKS_CONFIG": str(service.catalogue(tmp_path / "boltworks.toml")),
    }
    async with gateway_process(tmp_path, dsn, settings) as running:
        yield running
