"""When a delivery is tried again, what an answer means, and which events can be asked for."""

from __future__ import annotations

import pytest

from gateway.webhooks.decisions import BACKOFF_S, Again, Delivered, GiveUp, Step, after_attempt, unknown_events


@pytest.mark.parametrize(
    ("status", "attempts", "wanted"),
    [
        (200, 1, Delivered()),
        (204, 9, Delivered()),
        (299, 1, Delivered()),
        (None, 1, Again(5)),
        (500, 2, Again(30)),
        (301, 1, Again(5)),
        (404, 1, Again(5)),
        (429, 8, Again(43_200)),
        (500, 9, GiveUp()),
        (None, 9, GiveUp()),
        (410, 1, GiveUp(gone=True)),
        (410, 9, GiveUp(gone=True)),
    ],
)
def test_after_an_attempt(status: int | None, attempts: int, wanted: Step) -> None:
    assert after_attempt(status, attempts, jitter=0) == wanted


def test_retries_are_spread_and_take_about_a_day() -> None:
    assert after_attempt(None, 1, jitter=1) == Again(6)
    assert 20 * 3600 < sum(BACKOFF_S) < 30 * 3600


@pytest.mark.parametrize(
    ("wanted", "unknown"),
    [
        (["*"], []),
        (["job.*", "refund.*"], []),
        (["job.complete", "refund.paid"], []),
        (["job.done"], ["job.done"]),
        (["invoice.*"], ["invoice.*"]),
        (["job*"], ["job*"]),
        (["*.complete"], ["*.complete"]),
        (["", "job.complete"], [""]),
        (["JOB.complete"], ["JOB.complete"]),
    ],
)
def test_what_can_be_asked_for(wanted: list[str], unknown: list[str]) -> None:
    assert unknown_events(wanted) == unknown
