"""What was done and seen, one JSON object a line, with seconds since the start."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any


class EventLog:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self._began = time.monotonic()
        self._file = path.open("w", buffering=1)

    def begin(self) -> None:
        """Times count from here on."""
        self._began = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def write(self, event: str, **facts: Any) -> None:
        self.counts[event] += 1
        line = {"t": round(self.elapsed_s, 2), "event": event, **facts}
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def close(self) -> None:
        self._file.close()
