"""The containers of one stack by their services' names: kill, pause, cut off, look at."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lightning.regtest.docker.client import DockerError, docker

LOOK_EVERY_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Seen:
    """A container as the engine tells it."""

    running: bool
    paused: bool
    pid: int
    health: str
    """`healthy`, `unhealthy`, `starting`, or `none`."""

    @property
    def usable(self) -> bool:
        return self.running and not self.paused and self.health == "healthy"


@dataclass(frozen=True, slots=True)
class Containers:
    """Every call raises DockerError."""

    project: str

    def name(self, service: str) -> str:
        return f"{self.project}-{service}-1"

    def start(self, service: str) -> None:
        docker("start", self.name(service))

    def stop(self, service: str, *, within_s: int = 15) -> None:
        """SIGTERM (or the image's own signal), and SIGKILL after that time."""
        docker("stop", "-t", str(within_s), self.name(service))

    def kill(self, service: str) -> None:
        """SIGKILL; it is not started again by itself."""
        docker("kill", self.name(service))

    def pause(self, service: str) -> None:
        """Freezes its processes: connections stay open and nothing answers."""
        docker("pause", self.name(service))

    def resume(self, service: str) -> None:
        docker("unpause", self.name(service))

    def cut(self, service: str, network: str) -> None:
        """Takes it off that network of the stack: nothing comes or goes there."""
        docker("network", "disconnect", f"{self.project}_{network}", self.name(service))

    def join(self, service: str, network: str) -> None:
        """Undoes `cut`; it has its name there again."""
        docker("network", "connect", "--alias", service, f"{self.project}_{network}", self.name(service))

    def seen(self, service: str) -> Seen | None:
        """None: there is no such container."""
        if not docker("container", "ls", "--all", "--quiet", "--filter", f"name=^{self.name(service)}$"):
            return None
        return read_state(json.loads(docker("inspect", "--format", "{{json .State}}", self.name(service))))

    def wait_healthy(self, services: Sequence[str], timeout_s: float) -> None:
        """Until each of them is usable."""
        deadline = time.monotonic() + timeout_s
        while waiting := [name for name in services if (seen := self.seen(name)) is None or not seen.usable]:
            if time.monotonic() > deadline:
                last = "\n".join(self.logs(name, 10) for name in waiting)
                raise DockerError(f"not healthy after {timeout_s:.0f} s: {', '.join(waiting)}\n{last}")
            time.sleep(LOOK_EVERY_S)

    def logs(self, service: str, lines: int) -> str:
        """The end of what it wrote."""
        return docker("logs", "--tail", str(lines), self.name(service))

    def read(self, service: str, path: str, work: Path) -> bytes:
        """A file of a container that need not run; by way of a file in `work`."""
        copy = work / f".copy-{service}"
        docker("cp", f"{self.name(service)}:{path}", str(copy))
        try:
            return copy.read_bytes()
        finally:
            copy.unlink()


def read_state(state: dict[str, Any]) -> Seen:
    """`docker inspect`'s `State`."""
    health = (state.get("Health") or {}).get("Status", "none")
    return Seen(bool(state["Running"]), bool(state["Paused"]), int(state["Pid"]), str(health))
