"""Which machine this is, in the words of those whose files are fetched."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Platform:
    system: str
    """`linux`, `darwin`, …"""
    arch: str
    """`amd64`, `arm64`, or the machine's own word."""

    @property
    def key(self) -> str:
        return f"{self.system}-{self.arch}"


ARCHES: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def this_platform() -> Platform:
    machine = platform.machine().lower()
    return Platform(platform.system().lower(), ARCHES.get(machine, machine))
