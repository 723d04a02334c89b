"""The images of the stack: named by the environment, else built here, once for each version.

`python -m lightning.regtest.docker.images` builds what is missing and prints the names; with `gateway`, that one. No
registry is asked, unless the environment names an image: `BITCOIND_IMAGE`, `LND_IMAGE`, `POSTGRES_IMAGE`,
`GATEWAY_IMAGE`, `PYTHON_IMAGE` (the base of the gateway's).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lightning.regtest import binaries, debian
from lightning.regtest.binaries import BinariesMissing
from lightning.regtest.docker import rootfs, wheels
from lightning.regtest.docker.client import docker, require_engine
from lightning.regtest.docker.rootfs import Recipe
from lightning.regtest.errors import RegtestError
from lightning.regtest.filelock import locked
from lightning.regtest.golang import LND_VERSION
from lightning.regtest.paths import cache_dir
from lightning.regtest.platforms import this_platform
from lightning.regtest.progress import Phase, Progress

CONTAINERS: Final = Path(__file__).parent / "containers"
CHECKOUT: Final = Path(__file__).parents[3]
REPOSITORY: Final = "boltworks-local"
"""Before the names of all images that are made here; no registry has it."""
POSTGRES: Final = Recipe(
    ("base-files", "dash", "tzdata", "busybox-static", "postgresql-17"),
    left_out=(
        *("perl", "libperl", "libjson-perl", "libio-pty-perl", "libipc-run-perl", "libtext-", "postgresql-common"),
        *(
            "postgresql-client-common",
            "ucf",
            "debconf",
            "adduser",
            "passwd",
            "login",
            "libllvm",
            "libz3",
            "dpkg_",
            "tar_",
        ),
        *("tar_", "mawk", "procps", "ssl-cert", "openssl_", "sensible-utils", "init-system-helpers", "sysvinit"),
        *(
            "locales",
            "libc-l10n",
            "readline-common",
            "base-passwd",
            "debianutils",
            "libsemanage",
            "libdb5",
            "libpam-modules",
        ),
    ),
    removed=("usr/lib/postgresql/17/lib/bitcode", "usr/lib/postgresql/17/lib/llvmjit*"),
)
PYTHON: Final = Recipe(
    ("base-files", "dash", "tzdata", "python3", "ca-certificates", "libstdc++6"),
    left_out=("debconf", "dpkg_", "tar_", "mawk", "readline-common", "debianutils", "openssl_"),
)
BUSYBOX: Final = Recipe(("busybox-static",), left_out=("libc6", "gcc-14-base", "libgcc"))
LND_TOOLS: Final = ("sh", "grep", "cat", "ls")
POSTGRES_TOOLS: Final = ("cat", "date", "grep", "ls", "mv", "rm", "sleep", "tail")
"""For the backups of deploy/backup.sh."""
GATEWAY_SOURCES: Final = ("gateway", "ledger", "lightning", "templates", "pyproject.toml", "Containerfile")


class CannotBuild(RegtestError):
    """An image can be neither found nor built here; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Images:
    bitcoind: str
    lnd: str
    postgres: str
    gateway: str

    def environment(self) -> dict[str, str]:
        """As the compose file reads them."""
        return {
            "BITCOIND_IMAGE": self.bitcoind,
            "LND_IMAGE": self.lnd,
            "POSTGRES_IMAGE": self.postgres,
            "GATEWAY_IMAGE": self.gateway,
        }


def ensure_images(progress: Progress) -> Images:
    """Finds them, builds what is missing. Raises RegtestError."""
    with _building():
        return Images(
            bitcoind=os.environ.get("BITCOIND_IMAGE") or _bitcoind(progress),
            lnd=os.environ.get("LND_IMAGE") or _lnd(progress),
            postgres=os.environ.get("POSTGRES_IMAGE") or _postgres(progress),
            gateway=os.environ.get("GATEWAY_IMAGE") or _gateway(progress),
        )


def ensure_gateway_image(progress: Progress) -> str:
    """Only the gateway's, for an operator. Raises RegtestError."""
    with _building():
        return _gateway(progress)


@contextmanager
def _building() -> Iterator[None]:
    """One at a time. Raises CannotBuild for what Debian and Go do not give here."""
    require_engine()
    try:
        with locked(cache_dir() / "images.lock"):
            yield
    except (debian.NotFetched, debian.NoBitcoind, BinariesMissing) as error:
        raise CannotBuild(
            f"{error}\nImages are built here on Debian only; elsewhere name them: "
            "BITCOIND_IMAGE, LND_IMAGE, POSTGRES_IMAGE, and PYTHON_IMAGE as the base of the gateway's."
        ) from error


def exists(image: str) -> bool:
    return bool(docker("image", "ls", "--quiet", image))


def _bitcoind(progress: Progress) -> str:
    tree = binaries.cached_bitcoind_tree(progress)
    image = f"{REPOSITORY}/bitcoind:{_tag(tree.name.removeprefix('bitcoind-'), _text('bitcoind'))}"

    def make(work: Path, phase: Phase) -> None:
        shutil.copytree(tree, work / "root", symlinks=True)
        for path in (work / "root/usr/share", work / "root/var"):
            shutil.rmtree(path, ignore_errors=True)

    return _ensure("bitcoind", image, make, {"data": 0o700}, progress)


def _lnd(progress: Progress) -> str:
    folder = binaries.cached_lnd_folder(progress)
    image = f"{REPOSITORY}/lnd:{_tag(LND_VERSION, _text('lnd'))}"

    def make(work: Path, phase: Phase) -> None:
        tree = rootfs.of_packages(BUSYBOX, work / "busybox", phase)
        programs = work / "root/usr/bin"
        programs.mkdir(parents=True)
        shutil.copy2(tree / "usr/bin/busybox", programs)
        _link_tools(programs, LND_TOOLS)
        for name in ("lnd", "lncli"):
            shutil.copy2(folder / name, programs)

    return _ensure("lnd", image, make, {"data": 0o700}, progress)


def _postgres(progress: Progress) -> str:
    return _of_packages("postgres", POSTGRES, _add_entrypoint, progress)


def _of_packages(name: str, recipe: Recipe, also: Callable[[Path], None], progress: Progress) -> str:
    image = f"{REPOSITORY}/{name}:{_tag(rootfs.SUITE, _text(name), repr(recipe), rootfs.ACCOUNTS)}"

    def make(work: Path, phase: Phase) -> None:
        tree = rootfs.of_packages(recipe, work / "packages", phase)
        also(tree)
        tree.rename(work / "root")

    return _ensure(name, image, make, OWNED[name], progress)


OWNED: Final = {"postgres": {"var/lib/postgresql": 0o700, "var/lib/postgresql/data": 0o700}, "python": {}}


def _link_tools(programs: Path, names: Sequence[str]) -> None:
    for name in names:
        (programs / name).symlink_to("busybox")


def _add_entrypoint(tree: Path) -> None:
    _link_tools(tree / "usr/bin", POSTGRES_TOOLS)
    (tree / "usr/local/bin").mkdir(parents=True, exist_ok=True)
    shutil.copy2(CONTAINERS / "postgres-entrypoint.sh", tree / "usr/local/bin/docker-entrypoint.sh")


def _ensure(
    name: str, image: str, make: Callable[[Path, Phase], None], owned: dict[str, int], progress: Progress
) -> str:
    """Builds it unless it is there. `make` lays out `root` in the directory it is given."""
    if exists(image):
        return image
    work = cache_dir() / "work" / f"image-{name}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700, parents=True)
    with progress.phase(f"Building the image of {name}") as phase:
        make(work, phase)
        rootfs.finish(work / "root")
        context = work / "context"
        context.mkdir()
        phase.update("packing")
        rootfs.pack(work / "root", context / "rootfs.tar", owned)
        phase.update("handing it to docker")
        docker("build", "--tag", image, "--file", str(CONTAINERS / f"{name}.Containerfile"), str(context))
    shutil.rmtree(work)
    return image


def _gateway(progress: Progress) -> str:
    if not (CHECKOUT / "Containerfile").exists():
        raise CannotBuild("The gateway's image is built from a checkout of boltworks; or name one in GATEWAY_IMAGE.")
    base = os.environ.get("PYTHON_IMAGE") or _of_packages("python", PYTHON, lambda tree: None, progress)
    image = f"{REPOSITORY}/gateway:{source_hash(CHECKOUT, base)}"
    if exists(image):
        return image
    with progress.phase("Building the image of the gateway") as phase:
        build_gateway(image, base, phase)
    for old in docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", f"{REPOSITORY}/gateway").split():
        if old != image and not docker("container", "ls", "--all", "--quiet", "--filter", f"ancestor={old}"):
            docker("image", "rm", old)
    return image


def build_gateway(image: str, base: str, phase: Phase) -> None:
    """The image of this checkout by the Containerfile, on `base`. Raises DockerError."""
    work = cache_dir() / "work" / "image-gateway"
    shutil.rmtree(work, ignore_errors=True)
    (work / "context").mkdir(mode=0o700, parents=True)
    shutil.copytree(wheels.dependencies(CHECKOUT, phase), work / "context/packages", symlinks=True)
    wheels.gateway(CHECKOUT, work / "context/gateway", phase)
    phase.update("handing it to docker")
    arguments = ("--build-arg", f"BASE={base}", "--file", str(CHECKOUT / "Containerfile"))
    docker("build", "--tag", image, *arguments, str(work / "context"))
    shutil.rmtree(work)


def source_hash(checkout: Path, base: str) -> str:
    """Changes when anything changes that is in the gateway's image."""
    digest = hashlib.sha256(base.encode())
    for path in _sources(checkout):
        digest.update(f"{path.relative_to(checkout)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _sources(checkout: Path) -> Iterator[Path]:
    yield checkout / "requirements.lock"
    for name in GATEWAY_SOURCES:
        path = checkout / name
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        yield from (file for file in files if file.is_file() and "__pycache__" not in file.parts)


def _text(name: str) -> str:
    own = [CONTAINERS / f"{name}.Containerfile", CONTAINERS / f"{name}-entrypoint.sh"]
    return "".join(path.read_text() for path in own if path.exists())


def _tag(version: str, *recipe: str) -> str:
    digest = hashlib.sha256("\0".join((this_platform().key, *recipe)).encode()).hexdigest()
    return f"{version}-{digest[:8]}"


def main(wanted: Sequence[str]) -> int:
    try:
        if "gateway" in wanted:
            names = {"GATEWAY_IMAGE": ensure_gateway_image(Progress())}
        else:
            names = ensure_images(Progress()).environment()
    except RegtestError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"{name}={image}\n" for name, image in names.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
