"""bitcoind, lnd and lncli: named by the environment, on PATH, in the cache, else fetched or built once.

`python -m lightning.regtest.binaries` does only this and prints where they are.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from lightning.regtest import debian, golang
from lightning.regtest.filelock import locked
from lightning.regtest.paths import cache_dir
from lightning.regtest.platforms import Platform, this_platform
from lightning.regtest.progress import Progress

BITCOIND_VERSION_TIMEOUT_S: Final = 20.0


class BinariesMissing(Exception):
    """A program is missing and cannot be had by itself; the text says what to install."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """How to start each program: the words before its own options."""

    bitcoind: tuple[str, ...]
    lnd: tuple[str, ...]
    lncli: tuple[str, ...] | None
    """For people at a shell; the network itself does not need it."""


def ensure_binaries(progress: Progress) -> Binaries:
    """Finds what is there and fetches or builds what is not. Raises BinariesMissing."""
    platform = this_platform()
    bitcoind = find_bitcoind(platform) or _make(progress, platform, _fetch_bitcoind, find_bitcoind, "bitcoind")
    lnd = find_lnd(platform) or _make(progress, platform, _build_lnd, find_lnd, "lnd")
    return Binaries(bitcoind, lnd, find_lncli(platform, lnd))


def find_bitcoind(platform: Platform) -> tuple[str, ...] | None:
    """Without fetching anything. Raises BinariesMissing when the environment names a file that is not there."""
    if found := _named_or_on_path("BOLTWORKS_BITCOIND", "bitcoind"):
        return found
    trees = _bitcoind_trees(platform)
    return debian.command_line(trees[-1], platform.arch) if trees else None


def _bitcoind_trees(platform: Platform) -> list[Path]:
    """Oldest first."""
    return sorted(_bin_dir().glob(f"bitcoind-*-{platform.key}"), key=lambda tree: _version_key(tree.name))


def find_lnd(platform: Platform) -> tuple[str, ...] | None:
    """As `find_bitcoind`."""
    return _named_or_on_path("BOLTWORKS_LND", "lnd") or _cached(platform, "lnd")


def find_lncli(platform: Platform, lnd: tuple[str, ...]) -> tuple[str, ...] | None:
    """The one beside `lnd` after those of the environment and of PATH."""
    beside = Path(lnd[0]).with_name("lncli")
    return (
        _named_or_on_path("BOLTWORKS_LNCLI", "lncli")
        or ((str(beside),) if beside.exists() else None)
        or _cached(platform, "lncli")
    )


def cached_bitcoind_tree(progress: Progress) -> Path:
    """The unpacked tree, for an image; what PATH and the environment name does not count. Raises BinariesMissing."""
    platform = this_platform()

    def find(platform: Platform) -> tuple[str, ...] | None:
        return (str(trees[-1]),) if (trees := _bitcoind_trees(platform)) else None

    return Path((find(platform) or _make(progress, platform, _fetch_bitcoind, find, "bitcoind"))[0])


def cached_lnd_folder(progress: Progress) -> Path:
    """As `cached_bitcoind_tree`: static programs. Raises BinariesMissing."""
    platform = this_platform()
    if platform.system != "linux":
        raise BinariesMissing("An image of LND is built on Linux only.")
    find = partial(_cached, program="lnd")
    return Path((find(platform) or _make(progress, platform, _build_lnd, find, "lnd"))[0]).parent


def _named_or_on_path(variable: str, program: str) -> tuple[str, ...] | None:
    if named := os.environ.get(variable):
        path = Path(named).expanduser().resolve()
        if not os.access(path, os.X_OK):
            raise BinariesMissing(f"{variable} names {path}, which cannot be executed")
        return (str(path),)
    on_path = shutil.which(program)
    return (str(Path(on_path).resolve()),) if on_path else None


def _cached(platform: Platform, program: str) -> tuple[str, ...] | None:
    path = _lnd_dir(platform) / program
    return (str(path),) if path.exists() else None


def _bin_dir() -> Path:
    return cache_dir() / "bin"


def _lnd_dir(platform: Platform) -> Path:
    return _bin_dir() / f"lnd-{golang.LND_VERSION}-{platform.key}"


def _version_key(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name) if part]


def _make(
    progress: Progress,
    platform: Platform,
    make: Callable[[Platform, Path, Progress], None],
    find: Callable[[Platform], tuple[str, ...] | None],
    name: str,
) -> tuple[str, ...]:
    """Makes it under a lock, unless another process just did. Raises BinariesMissing."""
    waiting = _Waiting(progress, name)
    work = cache_dir() / "work" / f"{name}-{platform.key}"
    with locked(cache_dir() / f"{name}.lock", while_waiting=waiting.tick):
        if found := find(platform):
            return found
        make(platform, work, progress)
        shutil.rmtree(work, ignore_errors=True)
    made = find(platform)
    if made is None:
        raise BinariesMissing(f"{name} was made but cannot be found in {_bin_dir()}")
    return made


class _Waiting:
    """Says now and then that another process does the work."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name
        self._started = time.monotonic()
        self._next_line_s = 0.0

    def tick(self) -> None:
        elapsed_s = time.monotonic() - self._started
        if elapsed_s >= self._next_line_s:
            self._progress.say(f"Another process gets {self._name} ready; waiting for it ({elapsed_s:.0f} s)")
            self._next_line_s = elapsed_s + 10.0


def _fetch_bitcoind(platform: Platform, work: Path, progress: Progress) -> None:
    if platform.system != "linux" or not debian.can_fetch(platform.arch):
        raise BinariesMissing(what_to_install("bitcoind", platform))
    try:
        with progress.phase("Fetching bitcoind") as phase:
            tree, version = debian.fetch(work, platform.arch, phase)
            phase.update("trying it")
            _try_bitcoind(debian.command_line(tree, platform.arch))
            _put(tree, _bin_dir() / f"bitcoind-{version}-{platform.key}")
    except debian.NoBitcoind as error:
        raise BinariesMissing(f"{error}\n{what_to_install('bitcoind', platform)}") from error


def _try_bitcoind(command: tuple[str, ...]) -> None:
    outcome = subprocess.run(
        [*command, "-version"], capture_output=True, text=True, timeout=BITCOIND_VERSION_TIMEOUT_S, check=False
    )
    if outcome.returncode != 0:
        raise debian.NoBitcoind(f"the bitcoind that was fetched does not run here: {outcome.stderr.strip()}")


def _build_lnd(platform: Platform, work: Path, progress: Progress) -> None:
    try:
        title = f"Building LND {golang.LND_VERSION}, once, in about 5 to 10 minutes"
        with progress.phase(title) as phase:
            work.mkdir(mode=0o700, parents=True, exist_ok=True)
            _put(golang.build(work, phase), _lnd_dir(platform))
    except golang.NoLnd as error:
        raise BinariesMissing(f"{error}\n{what_to_install('lnd', platform)}") from error


def _put(made: Path, place: Path) -> None:
    """Into place in one step: whoever finds `place` finds all of it."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    made.rename(place)


def what_to_install(program: str, platform: Platform) -> str:
    """A sentence for a person whose machine lacks `program`."""
    variable = f"BOLTWORKS_{program.upper()}"
    otherwise = f"or name the program in {variable}"
    if platform.system == "darwin":
        return f"Install it with `brew install {'bitcoin' if program == 'bitcoind' else 'lnd'}`, {otherwise}."
    if program == "bitcoind":
        return (
            "bitcoind is fetched by itself on Debian (amd64, arm64) only. "
            f"Install Bitcoin Core so that `bitcoind` is on PATH, {otherwise}."
        )
    return f"Install LND {golang.LND_VERSION} so that `lnd` is on PATH, {otherwise}."


def _describe(binaries: Binaries) -> str:
    named = {"bitcoind": binaries.bitcoind, "lnd": binaries.lnd, "lncli": binaries.lncli}
    return "\n".join(f"{name:9}{shlex.join(command) if command else 'not found'}" for name, command in named.items())


def main() -> int:
    try:
        binaries = ensure_binaries(Progress())
    except BinariesMissing as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{_describe(binaries)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
