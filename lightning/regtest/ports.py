"""Free TCP ports on loopback, outside the range from which the kernel serves outgoing connections."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

PREFERRED: Final = range(20_000, 30_000)
SECOND_CHOICE: Final = range(10_000, 20_000)
EPHEMERAL_FILE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
EPHEMERAL_ELSEWHERE: Final = range(49_152, 65_536)


class NoFreePorts(Exception):
    """Fewer free ports than asked for."""


def choose_ports(count: int, *, is_free: Callable[[int], bool] | None = None) -> list[int]:
    """Different free ports, at random, so that two networks started at once rarely meet. Raises NoFreePorts."""
    ephemeral = parse_ephemeral(EPHEMERAL_FILE.read_text()) if EPHEMERAL_FILE.exists() else EPHEMERAL_ELSEWHERE
    free = is_free or port_is_free
    chosen: list[int] = []
    for port in random.sample(candidates := candidate_ports(ephemeral), len(candidates)):
        if len(chosen) == count:
            break
        if free(port):
            chosen.append(port)
    if len(chosen) < count:
        raise NoFreePorts(f"{count} free ports are needed, {len(chosen)} were found")
    return chosen


def candidate_ports(ephemeral: range) -> Sequence[int]:
    """Ports to try: outside `ephemeral` if at all possible."""
    for ports in (PREFERRED, SECOND_CHOICE):
        outside = [port for port in ports if port not in ephemeral]
        if outside:
            return outside
    return PREFERRED


def parse_ephemeral(text: str) -> range:
    """The kernel's `low high` line as a range, both ends included."""
    low, high = text.split()
    return range(int(low), int(high) + 1)


def port_is_free(port: int) -> bool:
    """Whether loopback would let us listen there now."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
