"""A short run of the chaos harness (`make chaos` is the long one): everything is killed once, and some things twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning.regtest.control import AsyncControl
from lightning.regtest.network import Network
from tests.chaos.plan import TARGETS, faults
from tests.chaos.run import run

SEED, SECONDS, BUYERS = 7, 40, 6


@pytest.mark.slow
async def test_whatever_dies_every_owed_sat_arrives_once(regtest: Network, payer: AsyncControl, tmp_path: Path) -> None:
    outcome = await run(tmp_path, regtest, payer, tmp_path / "chaos.jsonl", seed=SEED, seconds=SECONDS, buyers=BUYERS)
    outcome.assert_right()
    assert {fault.target for fault in faults(SEED, SECONDS) if fault.does == "kill"} == set(TARGETS)
    assert outcome.faults["kill"] >= len(TARGETS)
    assert outcome.tally.refunds > 0
