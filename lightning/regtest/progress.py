"""What is being done and for how long: one living line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

PLAIN_LINE_EVERY_S: Final = 15.0
REDRAW_EVERY_S: Final = 0.5
CLEAR_LINE: Final = "\r\x1b[2K"


class Phase:
    """One piece of work that takes time; tell it what is being done."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.detail = ""

    def update(self, detail: str) -> None:
        self.detail = detail

    def line(self, elapsed_s: float) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.title}{detail}, {format_elapsed(elapsed_s)}"


class Progress:
    """Reports phases on a stream. On a terminal the line is redrawn; else a line at least every 15 s."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._quiet = quiet
        self._living = self._stream.isatty()
        self._write_lock = threading.Lock()

    def say(self, text: str) -> None:
        self._write(f"{text}\n")

    @contextmanager
    def phase(self, title: str) -> Iterator[Phase]:
        """Shows `title` until the block ends, and then how long it took."""
        phase = Phase(title)
        started = time.monotonic()
        ended = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(phase, started, ended), daemon=True)
        if not self._living:
            self._write(f"{title} …\n")
        ticker.start()
        try:
            yield phase
        except BaseException:
            self._end(ended, ticker)
            self._write(f"{self._clear()}{title}: not done after {format_elapsed(time.monotonic() - started)}\n")
            raise
        self._end(ended, ticker)
        self._write(f"{self._clear()}{title}: done in {format_elapsed(time.monotonic() - started)}\n")

    def _tick(self, phase: Phase, started: float, ended: threading.Event) -> None:
        interval_s = REDRAW_EVERY_S if self._living else PLAIN_LINE_EVERY_S
        while not ended.wait(interval_s):
            line = phase.line(time.monotonic() - started)
            self._write(f"{CLEAR_LINE}{line}" if self._living else f"{line}\n")

    def _clear(self) -> str:
        return CLEAR_LINE if self._living else ""

    @staticmethod
    def _end(ended: threading.Event, ticker: threading.Thread) -> None:
        ended.set()
        ticker.join()

    def _write(self, text: str) -> None:
        if self._quiet:
            return
        with self._write_lock:
            self._stream.write(text)
            self._stream.flush()


def format_elapsed(elapsed_s: float) -> str:
    """`4.2 s` below a minute, `3 min 07 s` above."""
    if elapsed_s < 60:
        return f"{elapsed_s:.1f} s"
    minutes, seconds = divmod(int(elapsed_s), 60)
    return f"{minutes} min {seconds:02d} s"
