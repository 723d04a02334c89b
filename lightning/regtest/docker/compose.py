"""Compose v2: the machine's own, else Debian's from suite sid, unpacked in the cache and never installed.

`python -m lightning.regtest.docker.compose` gets it and prints how to start it. Installing the package the ordinary
way could upgrade the machine's C library or remove its docker.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lightning.regtest import debian
from lightning.regtest.commands import CommandFailed, run
from lightning.regtest.docker.client import DockerError
from lightning.regtest.filelock import locked
from lightning.regtest.paths import cache_dir
from lightning.regtest.platforms import this_platform
from lightning.regtest.progress import Progress

PACKAGE: Final = "docker-compose"
UNPACKED: Final = "usr/libexec/docker/cli-plugins/docker-compose"
OLDEST: Final = (2, 20)
"""Here `up --wait` knows that a one-shot service may have ended."""


def ensure_compose(progress: Progress) -> tuple[str, ...]:
    """The words before Compose's own. Raises DockerError."""
    if own := _usable(("docker", "compose")):
        return own
    place = cache_dir() / "bin" / f"docker-compose-{this_platform().key}"
    with locked(cache_dir() / "compose.lock"):
        if not place.exists():
            _fetch(place, progress)
    if found := _usable((str(place),)):
        return found
    raise DockerError(f"{place} does not run here. Install Docker Compose 2.20 or newer.")


def _usable(command: tuple[str, ...]) -> tuple[str, ...] | None:
    try:
        return command if parse_version(run([*command, "version", "--short"])) >= OLDEST else None
    except CommandFailed:
        return None


def parse_version(text: str) -> tuple[int, int]:
    """`v2.40.3-3` as (2, 40); (0, 0) when it is none."""
    match = re.search(r"(\d+)\.(\d+)\.", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _fetch(place: Path, progress: Progress) -> None:
    platform = this_platform()
    if platform.system != "linux" or not debian.can_fetch(platform.arch):
        raise DockerError("Docker Compose 2.20 or newer is needed: install your system's package for it.")
    work = cache_dir() / "work" / "docker-compose"
    try:
        with progress.phase("Fetching Docker Compose") as phase:
            archives = debian.download(work, debian.SUITE, (PACKAGE,), phase, alone=True)
            debian.unpack(archives, work / "root", phase)
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (work / "root" / UNPACKED).replace(place)
    except (debian.NotFetched, OSError) as error:
        raise DockerError(f"Docker Compose could not be fetched: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Compose:
    """One project: a compose file under a name, with what the file takes from the environment."""

    command: Sequence[str]
    file: Path
    project: str
    env: Mapping[str, str] = field(repr=False)

    def run(self, *words: str, on_line: Callable[[str], None] | None = None) -> str:
        """What `compose …` printed. Raises DockerError."""
        argv = [*self.command, "--file", str(self.file), "--project-name", self.project, *words]
        try:
            return run(argv, env=self.env, on_line=on_line).strip()
        except CommandFailed as error:
            raise DockerError(str(error)) from error


def main() -> int:
    try:
        sys.stdout.write(" ".join(ensure_compose(Progress())) + "\n")
    except DockerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
