"""Running programs of PostgreSQL as the server's user, also on a folder that this user has no path to."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger.embedded.account import Account, can_enter
from ledger.embedded.binaries import Binaries
from ledger.embedded.errors import EmbeddedPostgresError
from ledger.embedded.files import ClusterFiles, user_name

_PR_SET_PDEATHSIG = 1
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
"""All they get of it: PGPORT, PGOPTIONS and their like would change what is started."""


@dataclass(frozen=True, slots=True)
class Programs:
    """`seen_folder` is DATA_DIR/postgres as the server's user sees it: its path, or, when a parent is closed to
    that user, /proc/self/fd/N of a descriptor that its processes inherit (the kernel asks no parent then)."""

    binaries: Binaries
    account: Account
    files: ClusterFiles
    seen_folder: str
    inherited_fds: tuple[int, ...]

    def seen(self, path: Path) -> str:
        return str(Path(self.seen_folder, path.relative_to(self.files.folder)))

    def start(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        stdin: int,
        stdout: int | None,
        stderr: int | None,
        death_signal: int,
    ) -> subprocess.Popen[str]:
        """Start a program; on Linux it gets `death_signal` should this process be killed."""
        as_other = not self.account.is_caller
        return subprocess.Popen(
            [str(self.binaries.program(name)), *arguments],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            cwd="/",
            env=_ENVIRONMENT,
            pass_fds=self.inherited_fds,
            user=self.account.uid if as_other else None,
            group=self.account.gid if as_other else None,
            extra_groups=[] if as_other else None,
            umask=0o077,
            preexec_fn=_dying_with_parent(death_signal),
        )

    def run(self, name: str, arguments: Sequence[str], *, stdin_text: str = "") -> None:
        """Run a program to its end. Raises EmbeddedPostgresError with its last line when it fails."""
        process = self.start(
            name,
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            death_signal=signal.SIGTERM,
        )
        output, _ = process.communicate(stdin_text)
        if process.returncode != 0:
            last_line = (output.strip().splitlines() or ["no output"])[-1]
            raise EmbeddedPostgresError(f"{name} ended with {process.returncode} on {self.files.folder}: {last_line}")

    def major_version(self) -> int:
        """The major version of the binaries, by their own word."""
        output = subprocess.run(
            [str(self.binaries.program("postgres")), "--version"],
            capture_output=True,
            text=True,
            env=_ENVIRONMENT,
            check=False,
        ).stdout
        found = re.search(r"\d+", output)
        if found is None:
            raise EmbeddedPostgresError(f"{self.binaries.program('postgres')} does not run on this system")
        return int(found.group())


def programs_for(binaries: Binaries, account: Account, files: ClusterFiles, processes_lock_fd: int) -> Programs:
    """Raises EmbeddedPostgresError when `account` can reach the folder neither by path nor by descriptor."""
    if can_enter(account, files.folder):
        return Programs(binaries, account, files, str(files.folder), (processes_lock_fd,))
    if sys.platform != "linux":
        raise EmbeddedPostgresError(
            f"{user_name(account.uid)} cannot enter {files.folder}: choose a data directory whose parents it may enter"
        )
    folder_fd = os.open(files.folder, os.O_RDONLY | os.O_DIRECTORY)
    return Programs(binaries, account, files, f"/proc/self/fd/{folder_fd}", (processes_lock_fd, folder_fd))


def _dying_with_parent(death_signal: int) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def ask_for_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return ask_for_signal
