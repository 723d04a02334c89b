"""What was done, as JSON lines, and counted."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any


class EventLog:
    """`path` None: only counted. Times are seconds since the start."""

    def __init__(self, path: Path | None) -> None:
        self._start_s = time.monotonic()
        self._file = None if path is None else path.open("w", encoding="utf-8")
        self.counts: Counter[str] = Counter()

    def tell(self, event: str, **facts: Any) -> None:
        self.counts[event] += 1
        if self._file is not None:
            line = {"t": round(time.monotonic() - self._start_s, 2), "event": event, **facts}
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
