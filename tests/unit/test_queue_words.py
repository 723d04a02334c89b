"""The queue's words: one that it changed says as much as many, and the last one is never lost."""

from __future__ import annotations

import asyncio

import pytest
from pgqueuer.domain.models import TableChangedEvent

from gateway.execution import driver

CHANGED = '{"channel":"c","type":"table_changed_event","n":%d}'


def test_the_type_is_pgqueuers() -> None:
    assert TableChangedEvent.model_fields["type"].annotation is not None
    assert driver.QUEUE_CHANGED in str(TableChangedEvent.model_fields["type"].annotation)


async def test_changes_are_passed_at_once_then_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[object] = []
    later: list[tuple[float, object]] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", lambda delay_s, call: later.append((delay_s, call)), raising=False)
    tell = driver.gathered(heard.append)
    tell(CHANGED % 1)
    assert heard == [CHANGED % 1]
    for n in (2, 3, 4):
        tell(CHANGED % n)
    tell('{"type":"cancellation_event"}')
    assert heard[1:] == ['{"type":"cancellation_event"}']
    ((delay_s, pass_on),) = later
    assert delay_s == driver.GATHER_S
    pass_on()  # type: ignore[operator]
    assert heard[2:] == [CHANGED % 4]
    later.pop()[1]()  # type: ignore[operator]
    assert heard[3:] == []
    tell(CHANGED % 5)
    assert heard[3:] == [CHANGED % 5]
