"""The parts of `bench node` that decide what it says."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from gateway.bench.node import GOALS
from gateway.bench.node_cpu import TICK_S, Part, Process, read_stat, spent_s
from gateway.bench.node_faults import Left, watch
from gateway.bench.node_rates import Row, Side, Told, at_once


@pytest.mark.parametrize(
    ("name", "value", "met"),
    [
        ("invoice_creation", 0.6, True),
        ("invoice_creation", 0.59, False),
        ("told_behind_lnd_p50_ms", 10, True),
        ("told_behind_lnd_p50_ms", 10.1, False),
        ("wrong_sends_after_kill", 0, True),
        ("wrong_sends_after_kill", 1, False),
    ],
)
def test_a_goal_is_a_bound_from_one_side(name: str, value: float, met: bool) -> None:
    assert GOALS[name].is_met(value) is met


def test_a_ratio_is_of_rates() -> None:
    assert Row(raw=Side(100, 2.0), ours=Side(50, 4.0)).ratio == pytest.approx(0.25)


def test_a_line_of_stat_is_read_whatever_the_name_holds() -> None:
    line = "7 (a) b (c) S 3 " + " ".join(str(number) for number in range(5, 14)) + " 100 20 3 4 20 0"
    assert read_stat(line) == Process(7, 3, pytest.approx(127 * TICK_S))


def test_processor_time_is_counted_with_or_without_what_a_process_started() -> None:
    running = [Process(1, 0, 1.0), Process(2, 1, 2.0), Process(3, 2, 4.0), Process(9, 0, 8.0)]
    parts = {"tree": Part(1, with_children=True), "alone": Part(2), "gone": Part(5)}
    assert spent_s(parts, running) == {"tree": 7.0, "alone": 2.0, "gone": 0.0}


async def test_what_a_round_cost_is_what_was_spent_meanwhile() -> None:
    side, spent = Side(), iter([Counter(lnd=1.0, idle=5.0), Counter(lnd=1.5, idle=5.0)])

    async def work() -> list[int]:
        return [1, 2]

    await side.timed(work(), lambda: next(spent))
    assert (side.done, side.cpu_ms_each) == (2, {"lnd": 250.0, "idle": 0.0, "all": 250.0})


def test_quantiles_of_how_late_one_was_told() -> None:
    told = Told([n / 1000 for n in range(100, 0, -1)])
    assert (told.quantile_ms(0.5), told.quantile_ms(0.99)) == (51, 100)


async def test_so_many_at_once_and_all_of_them() -> None:
    running, most = 0, 0

    async def one(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return number

    answers = await at_once(4, range(20), one)
    assert (sorted(answers), most) == (list(range(20)), 4)


async def test_what_is_wrong_is_watched_until_it_is_right() -> None:
    counts = iter([3, 1, 0])

    async def count_wrong() -> int:
        return next(counts)

    left = await watch(Left(5), count_wrong)
    assert (left.in_all, left.at_first, left.at_last) == (5, 3, 0)
    assert left.right_after_s is not None
