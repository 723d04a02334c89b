"""Root file systems of Debian's packages, unpacked and never configured, as one tar that `ADD` unpacks."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lightning.regtest import debian
from lightning.regtest.progress import Phase

SUITE: Final = "trixie"
USER_ID: Final = 10001
"""Whom the programs of our images run as; `postgres` in its own."""
ACCOUNTS: Final = """\
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
boltworks:x:10001:10001:boltworks:/data:/bin/false
postgres:x:10001:10001:postgres:/var/lib/postgresql:/bin/sh
"""
GROUPS: Final = "root:x:0:\nnogroup:x:65534:\nboltworks:x:10001:\n"
NOT_NEEDED: Final = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bug",
    "var/lib/dpkg",
)
MERGED: Final = ("bin", "lib", "lib64", "sbin")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is in an image that is made of Debian's packages."""

    packages: Sequence[str]
    left_out: Sequence[str] = ()
    """Beginnings of the names of packages that these depend on and do not need here."""
    removed: Sequence[str] = ()
    """Paths below the root, as globs."""


def of_packages(recipe: Recipe, work: Path, phase: Phase) -> Path:
    """The tree, below `work`, which is emptied first. Raises debian.NotFetched."""
    archives = debian.download(work, SUITE, recipe.packages, phase)
    tree = work / "root"
    debian.unpack([path for path in archives if not path.name.startswith(tuple(recipe.left_out))], tree, phase)
    for pattern in (*NOT_NEEDED, *recipe.removed):
        for path in tree.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return tree


def finish(tree: Path) -> None:
    """What Debian's scripts would have done: accounts, merged directories, one file of certificates, `python3`."""
    etc = tree / "etc"
    etc.mkdir(exist_ok=True)
    (etc / "passwd").write_text(ACCOUNTS)
    (etc / "group").write_text(GROUPS)
    for name in MERGED:
        if not (tree / name).exists() and (tree / "usr" / name).exists():
            (tree / name).symlink_to(f"usr/{name}")
    certificates = sorted((tree / "usr/share/ca-certificates").rglob("*.crt"))
    if certificates:
        (etc / "ssl/certs").mkdir(parents=True, exist_ok=True)
        bundle = "".join(path.read_text() for path in certificates)
        (etc / "ssl/certs/ca-certificates.crt").write_text(bundle)
    if (tree / "usr/bin/dash").exists():
        (tree / "usr/bin/sh").unlink(missing_ok=True)
        (tree / "usr/bin/sh").symlink_to("dash")
    (tree / "tmp").mkdir(exist_ok=True)


def pack(tree: Path, tar: Path, owned: Mapping[str, int]) -> None:
    """Everything root's, but for the directories of `owned`, which the images' user has with these modes."""
    with tarfile.open(tar, "w") as archive:
        for path in sorted(tree.iterdir()):
            archive.add(path, path.name, filter=_owned_by_root)
        for name, mode in owned.items():
            _add_directories(archive, tree, name, mode)


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    if member.name == "tmp":
        member.mode = 0o1777
    return member


def _add_directories(archive: tarfile.TarFile, tree: Path, name: str, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    member.uid = member.gid = USER_ID
    archive.addfile(member)
