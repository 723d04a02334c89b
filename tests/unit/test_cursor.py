"""The watcher's cursor moves only over an unbroken run of acknowledgements."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.settlement.cursor import Cursor


def test_out_of_order_acknowledgements() -> None:
    cursor = Cursor(5)
    assert not cursor.acknowledge(7, b"7")
    assert cursor.position == 5
    assert cursor.acknowledge(6, b"6")
    assert (cursor.position, cursor.witness) == (7, b"7")


def test_a_gap_holds_the_cursor() -> None:
    cursor = Cursor(5)
    cursor.acknowledge(8, b"8")
    cursor.acknowledge(9, b"9")
    assert cursor.position == 5


def test_from_nothing_the_first_event_seen_begins_the_run() -> None:
    cursor = Cursor(0)
    cursor.seen(41)
    cursor.seen(42)
    cursor.acknowledge(42, b"42")
    assert cursor.position == 40
    cursor.acknowledge(41, b"41")
    assert cursor.position == 42


def test_a_repeat_moves_nothing() -> None:
    cursor = Cursor(5)
    assert not cursor.acknowledge(5, b"5")
    assert not cursor.acknowledge(3, b"3")
    assert cursor.position == 5


@given(st.permutations(range(1, 9)), st.integers(0, 8))
def test_everything_up_to_the_cursor_is_acknowledged(order: list[int], taken: int) -> None:
    cursor = Cursor(100)
    done = order[:taken]
    for index in done:
        cursor.acknowledge(100 + index, bytes([index]))
    run = 0
    while run + 1 in done:
        run += 1
    assert cursor.position == 100 + run
