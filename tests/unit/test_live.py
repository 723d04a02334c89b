"""Who waits for a job hears of it; changes of refunds are told together."""

from __future__ import annotations

import asyncio

import pytest

from gateway import live
from gateway.live import JOBS, OPERATOR, REFUNDS, Hub


async def test_a_change_is_told_to_who_waits_for_that_job_and_to_nobody_else() -> None:
    hub = Hub()
    with hub.watch("mine") as mine, hub.watch("mine") as also_mine, hub.watch("other") as other:
        hub.tell("mine")
        hub.tell("nobody waits")
        assert (mine.is_set(), also_mine.is_set(), other.is_set()) == (True, True, False)
        hub._heard(None, 1, JOBS, "other")
        assert other.is_set()
    assert hub.watched == 0


async def test_who_follows_everything_hears_of_everything_until_it_leaves() -> None:
    hub = Hub()
    with hub.watch_all() as everything, hub.watch("mine") as mine:
        for channel, told in ((JOBS, "other"), (OPERATOR, "")):
            everything.clear()
            hub._heard(None, 1, channel, told)
            assert (everything.is_set(), mine.is_set()) == (True, False)
        everything.clear()
        hub.tell("mine")
        assert (everything.is_set(), mine.is_set()) == (True, True)
        everything.clear()
    hub.tell("mine")
    assert not everything.is_set()


async def test_changes_of_refunds_are_told_together_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "GATHER_S", 0.0)
    hub, woken = Hub(), asyncio.Event()
    hub.wake_on_refunds(woken)
    for _ in range(3):
        hub._heard(None, 1, REFUNDS, "")
    await woken.wait()
    woken.clear()
    hub._heard(None, 1, REFUNDS, "")
    await woken.wait()
    assert hub.watched == 0
