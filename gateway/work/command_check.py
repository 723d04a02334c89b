"""May the catalogue's `command` works be run on this machine? Asked before anything starts. Never run unisolated."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.catalogue.model import Catalogue, CommandWork
from gateway.settings import PREFIX, SECRET_NAMES, Settings
from gateway.work.command_root import SYSTEM
from gateway.work.command_sandbox import TOOLS, TOOLS_PATH, Sandbox

FIND = ("/bin/sh", "-c", 'command -v -- "$1"', "sh")


async def why_not(catalogue: Catalogue, settings: Settings) -> str | None:
    """One plain line for the operator, or None: there is no such work, or each of them can be run isolated."""
    entries = [entry for entry in catalogue.works if isinstance(entry, CommandWork)]
    if not entries:
        return None
    if reason := missing_on(sys.platform):
        return f"the command worker cannot be run here because {reason}"
    for entry in entries:
        if reason := shows_a_secret(entry, settings) or await cannot_run(entry, Sandbox()):
            return f"work {entry.name!r}: the command worker cannot be run here because {reason}"
    return None


def missing_on(platform: str) -> str | None:
    if platform != "linux":
        return f"only Linux has the namespaces that keep a program from network and files, and this is {platform}"
    tools = [tool for tool in TOOLS if shutil.which(tool, path=TOOLS_PATH) is None]
    return f"{', '.join(tools)} (of the package util-linux) is missing" if tools else None


async def cannot_run(entry: CommandWork, sandbox: Sandbox) -> str | None:
    """Tried for real: the entry's own world is opened, and its program looked for in there."""
    ended = await sandbox.run(entry, (*FIND, entry.command[0]), {})
    if ended.end == "not isolated":
        return f"namespaces can not be had: {ended.complaint}"
    if ended.end == "exit" and ended.code == 0:
        return None
    if ended.end == "exit":
        return f"it does not see a program {entry.command[0]!r} (what it needs outside of /usr is named by `visible`)"
    return f"not even a shell runs within its limits ({ended.end})"


def shows_a_secret(entry: CommandWork, settings: Settings) -> str | None:
    shown = [Path(path).resolve() for path in (*entry.visible, *(f"/{name}" for name in SYSTEM))]
    for secret in secret_places(settings):
        place = secret.path.absolute().resolve()
        for path in shown:
            if place.is_relative_to(path) or path.is_relative_to(place):
                return f"it would see {secret.name} ({secret.path}) in {path}"
    return None


@dataclass(frozen=True, slots=True)
class _Place:
    name: str
    path: Path


def secret_places(settings: Settings) -> Iterator[_Place]:
    """Everything on disk that a stranger's input must never reach."""
    yield _Place(f"{PREFIX}DATA_DIR", settings.data_dir)
    for name, path in (("LND_MACAROON", settings.lnd_macaroon), ("CONFIG", settings.config)):
        if path is not None:
            yield _Place(PREFIX + name, path)
    for secret in (*SECRET_NAMES, "database_url"):
        name = f"{PREFIX}{secret.upper()}_FILE"
        if file := os.environ.get(name):
            yield _Place(name, Path(file))
    if Path(".env").exists():
        yield _Place(".env", Path(".env"))
