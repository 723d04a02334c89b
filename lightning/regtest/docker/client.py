"""The docker client: one call, and a plain word when it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lightning.regtest.commands import CommandFailed, run
from lightning.regtest.errors import RegtestError


class DockerError(RegtestError):
    """docker, or Compose, did not do what was asked; the text is for a person."""


def docker(
    *words: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
) -> str:
    """What `docker …` printed. Raises DockerError."""
    try:
        return run(["docker", *words], env=env, cwd=cwd, on_line=on_line).strip()
    except CommandFailed as error:
        raise DockerError(str(error)) from error


def engine_answers() -> bool:
    """Whether an engine is there; a client alone is not one."""
    try:
        docker("info", "--format", "{{.ServerVersion}}")
    except DockerError:
        return False
    return True


def require_engine() -> None:
    """Raises DockerError that says how to get one."""
    if not engine_answers():
        raise DockerError(
            "No docker engine answers (`docker info`). Start yours; on Debian, as root, "
            "`scripts/docker-engine start` in a checkout of boltworks installs and starts one."
        )
