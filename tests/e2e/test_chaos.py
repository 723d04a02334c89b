"""A short run of the chaos harness (`make chaos` is the long one): everything is killed once, and some things twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning.regtest.network import Network
from lightning.regtest.processes import myself
from tests.chaos.plan import TARGETS, faults
from tests.chaos.run import run

SEED, SECONDS, BUYERS = 7, 40, 6


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """One of its own: what LND itself may lose to a SIGKILL shall be missed by no other test."""
    network = Network(tmp_path / "regtest", channels=4)
    try:
        network.up(owner=myself())
        yield network
    finally:
        network.down()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.native
async def test_whatever_dies_every_owed_sat_arrives_once(network: Network, tmp_path: Path) -> None:
    payer = network.async_control("payer")
    outcome = await run(tmp_path, network, payer, tmp_path / "chaos.jsonl", seed=SEED, seconds=SECONDS, buyers=BUYERS)
    payer.close()
    outcome.assert_right()
    assert {fault.target for fault in faults(SEED, SECONDS) if fault.does == "kill"} == set(TARGETS)
    assert outcome.faults["kill"] >= len(TARGETS)
    assert outcome.tally.refunds > 0
