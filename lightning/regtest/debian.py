"""bitcoind from Debian's `bitcoin-knots` in suite sid, unpacked beside the system and never installed.

apt runs with a state directory of our own: the machine's mirror and proxy settings, an empty package status, one suite
alone, its signatures checked against the machine's Debian keyring. No root is needed. bitcoind then runs by the
unpacked dynamic loader with the unpacked libraries, so the machine's own C library does not matter.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from lightning.regtest.commands import CommandFailed, run
from lightning.regtest.progress import Phase

SUITE: Final = "sid"
PACKAGES: Final = ("bitcoin-knots", "systemd-standalone-sysusers")
"""The second stands in for the whole of systemd, which bitcoin-knots would else pull in."""
LOADERS: Final = {"amd64": "ld-linux-x86-64.so.2", "arm64": "ld-linux-aarch64.so.1"}
TOOLS: Final = ("apt-get", "apt-config", "dpkg-deb")
KEYRING_DIR: Final = Path("/usr/share/keyrings")
KEYRING_NAMES: Final = ("debian-archive-keyring.pgp", "debian-archive-keyring.gpg")
OWN_SETTINGS: Final = """\
Dir::Etc::parts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::sourcelist "{home}/sources.list";
Dir::State "{home}";
Dir::State::lists "{home}/lists";
Dir::State::status "{home}/status";
Dir::Cache "{home}/cache";
Dir::Log "{home}";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
"""


class NoBitcoind(Exception):
    """bitcoind cannot be had this way on this machine; the text says why."""


class NotFetched(Exception):
    """Debian's packages cannot be had here; the text says why."""


def can_fetch(arch: str) -> bool:
    """Whether this machine has apt, Debian's keyring, and an architecture that sid carries bitcoind for."""
    return arch in LOADERS and all(shutil.which(tool) for tool in TOOLS) and bool(_keyrings())


def fetch(home: Path, arch: str, phase: Phase) -> tuple[Path, str]:
    """Downloads and unpacks below `home`: (the unpacked tree, Debian's version of it). Raises NoBitcoind."""
    try:
        archives = download(home, SUITE, PACKAGES, phase)
        tree = home / "root"
        unpack(archives, tree, phase)
    except NotFetched as error:
        raise NoBitcoind(str(error)) from error
    version = package_version(PACKAGES[0], (archive.name for archive in archives))
    if version is None or not (tree / "usr/bin/bitcoind").exists():
        raise NoBitcoind(f"{PACKAGES[0]} came without a bitcoind")
    return tree, version


def download(home: Path, suite: str, packages: Sequence[str], phase: Phase, *, alone: bool = False) -> list[Path]:
    """The archives of `packages` and of all that they depend on (not with `alone`), below `home`. Raises NotFetched."""
    mirrors = mirror_addresses()
    if not mirrors:
        raise NotFetched("the machine's apt configuration names no Debian mirror")
    reasons: list[str] = []
    for mirror in mirrors:
        for keyring in _keyrings():
            try:
                return _download_from(mirror, keyring, home, suite, packages, phase, alone)
            except CommandFailed as error:
                reasons.append(str(error))
    raise NotFetched(f"apt could not fetch {packages[0]} from suite {suite}:\n{(reasons or ['no keyring'])[0]}")


def _download_from(
    mirror: str, keyring: Path, home: Path, suite: str, packages: Sequence[str], phase: Phase, alone: bool
) -> list[Path]:
    apt_env = _own_apt(mirror, keyring, home, suite)
    phase.update("reading the package index")
    run(["apt-get", "update", "--error-on=any"], env=apt_env)
    phase.update("downloading")
    archives = home / "cache" / "archives"
    if alone:
        run(["apt-get", "download", *packages], env=apt_env, cwd=archives)
    else:
        run(["apt-get", "install", "--yes", "--download-only", *packages], env=apt_env)
    return sorted(archives.glob("*.deb"))


def unpack(archives: Sequence[Path], tree: Path, phase: Phase) -> None:
    """Their files, and nothing run. Raises NotFetched."""
    tree.mkdir(parents=True, exist_ok=True)
    try:
        for number, archive in enumerate(archives, start=1):
            phase.update(f"unpacking {number} of {len(archives)} packages")
            run(["dpkg-deb", "--extract", str(archive), str(tree)])
    except CommandFailed as error:
        raise NotFetched(str(error)) from error


def command_line(tree: Path, arch: str) -> tuple[str, ...]:
    """How to start the bitcoind of an unpacked tree."""
    loader = next(tree.rglob(LOADERS[arch]), None)
    libraries = sorted({str(found.parent) for found in tree.rglob("libc.so.6")})
    if loader is None or not libraries:
        raise NoBitcoind(f"no {LOADERS[arch]} was unpacked")
    return (str(loader), "--library-path", ":".join(libraries), str(tree / "usr/bin/bitcoind"))


def mirror_addresses() -> list[str]:
    """The Debian mirrors this machine uses, taken from its own apt, the main archive before the others."""
    try:
        indexed = run(["apt-get", "indextargets", "--format", "$(REPO_URI)"]).split()
        listed = indexed or repositories_of(run(["apt-get", "update", "--print-uris"]))
    except CommandFailed as error:
        raise NotFetched(str(error)) from error
    return main_archives(listed)


def repositories_of(print_uris: str) -> list[str]:
    """Repository addresses in what `apt-get update --print-uris` prints; it knows them before any update ran."""
    return re.findall(r"^'([^']+?/)dists/", print_uris, flags=re.MULTILINE)


def main_archives(addresses: Iterable[str]) -> list[str]:
    """Those that may hold suite sid, each once: paths ending in `debian` first, then others but for security."""
    unique = dict.fromkeys(address.rstrip("/") for address in addresses)
    named = [address for address in unique if re.search(r"/debian$|/archive/debian/[0-9TZ]+$", address)]
    others = [address for address in unique if address not in named and "security" not in address]
    return named + others


def package_version(package: str, file_names: Iterable[str]) -> str | None:
    """The version in a file name such as `bitcoin-knots_29.4-1_amd64.deb` (apt writes `:` as `%3a`)."""
    for name in file_names:
        if match := re.fullmatch(rf"{re.escape(package)}_([^_]+)_[^_]+\.deb", name):
            return match[1].replace("%3a", ":")
    return None


def _keyrings() -> Sequence[Path]:
    return [KEYRING_DIR / name for name in KEYRING_NAMES if (KEYRING_DIR / name).exists()]


def _own_apt(mirror: str, keyring: Path, home: Path, suite: str) -> dict[str, str]:
    """Lays out a private apt in `home`; the environment in which apt-get uses it and nothing else."""
    shutil.rmtree(home, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial", "root"):
        (home / folder).mkdir(parents=True)
    (home / "status").touch()
    (home / "sources.list").write_text(f"deb [signed-by={keyring}] {mirror} {suite} main\n")
    inherited = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    (home / "apt.conf").write_text(transport_settings(inherited) + OWN_SETTINGS.format(home=home))
    return {**os.environ, "APT_CONFIG": str(home / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}


def transport_settings(apt_config_dump: str) -> str:
    """Of `apt-config dump`, what concerns the way to the mirror (proxies, certificates)."""
    return "".join(f"{line}\n" for line in apt_config_dump.splitlines() if line.startswith("Acquire::"))
