"""Run a helper program, follow its output line by line, and say plainly how it failed."""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

LINES_KEPT: Final = 20


class CommandFailed(Exception):
    """The program could not be started or exited non-zero; the text holds its last lines."""


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
) -> str:
    """Its standard output and error, joined. Raises CommandFailed."""
    lines: list[str] = []
    try:
        process = subprocess.Popen(
            argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise CommandFailed(f"{argv[0]} cannot be started: {error.strerror}") from error
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line)
                if on_line is not None:
                    on_line(line.rstrip())
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        last = "".join(deque(lines, LINES_KEPT)).rstrip()
        raise CommandFailed(f"{argv[0]} exited with {process.returncode}:\n{last}")
    return "".join(lines)
