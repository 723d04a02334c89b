"""Processor time of everybody who takes part, from /proc: where time goes, also on a machine that others use."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    own_s: float
    """Its own processor time, and that of children that it has waited for."""


@dataclass(frozen=True, slots=True)
class Part:
    """Who is counted under one name: a process, with or without what it started."""

    pid: int
    with_children: bool = False


def read_stat(text: str) -> Process:
    """A line of `/proc/<pid>/stat`. Pure. The name stands in brackets and may hold anything."""
    pid, _, rest = text.partition(" (")
    fields = rest.rpartition(")")[2].split()
    return Process(int(pid), int(fields[1]), sum(int(ticks) for ticks in fields[11:15]) * TICK_S)


def processes() -> list[Process]:
    """All that run now; none where there is no /proc."""
    found = []
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            found.append(read_stat(stat.read_text()))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
    return found


def spent_s(parts: Mapping[str, Part], running: Iterable[Process]) -> Counter[str]:
    """Seconds that each part has used up so far. Pure."""
    by_pid = {process.pid: process for process in running}
    children: defaultdict[int, list[int]] = defaultdict(list)
    for process in by_pid.values():
        children[process.parent].append(process.pid)

    def of(pid: int, *, with_children: bool) -> float:
        own_s = by_pid[pid].own_s if pid in by_pid else 0.0
        return own_s + sum(of(child, with_children=True) for child in children[pid] if with_children)

    return Counter({name: of(part.pid, with_children=part.with_children) for name, part in parts.items()})
