"""The watcher's cursor, pure: the largest N with every settle index up to N acknowledged. A hint, no authority."""

from __future__ import annotations


class Cursor:
    """Acknowledgements may come in any order; the cursor moves only over an unbroken run of them.

    `start` 0 means that nothing is known: LND replays nothing for it, so the run begins with the first event seen.
    """

    def __init__(self, start: int) -> None:
        self._position = start
        self._witness: bytes | None = None
        self._acknowledged: dict[int, bytes] = {}

    @property
    def position(self) -> int:
        return self._position

    @property
    def witness(self) -> bytes | None:
        """Payment hash of the invoice that settled at `position`, if this run saw it."""
        return self._witness

    def seen(self, settle_index: int) -> None:
        if self._position == 0 and settle_index > 0:
            self._position = settle_index - 1

    def acknowledge(self, settle_index: int, payment_hash: bytes) -> bool:
        """True when the cursor moved."""
        if settle_index <= self._position:
            return False
        self._acknowledged[settle_index] = payment_hash
        moved = False
        while (following := self._acknowledged.pop(self._position + 1, None)) is not None:
            self._position += 1
            self._witness = following
            moved = True
        return moved
