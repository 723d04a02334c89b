"""A short chaos: everything killed and frozen at random under load; `make chaos` runs a longer one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lightning.regtest.network import Network
from tests.chaos.log import EventLog
from tests.chaos.run import chaos

SECONDS = float(os.environ.get("BOLTWORKS_CHAOS_SECONDS", "25"))
SEED = int(os.environ.get("BOLTWORKS_CHAOS_SEED", "20261127"))


@pytest.mark.slow
@pytest.mark.native
async def test_every_sat_is_accounted_for_whatever_is_killed_or_frozen(regtest: Network, tmp_path: Path) -> None:
    figures = await chaos(regtest, tmp_path, SECONDS, SEED, EventLog(tmp_path / "events.jsonl"))
    print(figures)  # noqa: T201 - the figures of the run
    assert figures["kills"] + figures["freezes"] > 4
    assert figures["refunds"] > 4
    assert figures["differences"] == 0
