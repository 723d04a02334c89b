"""The disk as a command sees it: the system's own folders read-only, what the catalogue shows, two empty folders.

Standard library alone. It runs in the new namespaces, before the command, with the right to mount there. What is not
listed here does not exist for the command: no home, no /run, no /var, no data of the gateway, no socket.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
ETC = (
    "alternatives",
    "fonts",
    "group",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "passwd",
)
DEVICES = ("null", "zero", "full", "random", "urandom")
OWN_FOLDERS = ("/work", "/tmp")  # noqa: S108 - made anew for each run
NEW_ROOT = Path("/sys")
"""Where the new root is put together: there on every Linux, and nothing that a program may see lies in it."""


class NotIsolatedError(Exception):
    """One step towards isolation failed, so nothing may be run. Plain words for the operator."""


def build_root(visible: Sequence[str], size_mb: int, owner: tuple[int, int]) -> None:
    """Replace this process's root. `size_mb` bounds each own folder, `owner` is its user and group there."""
    try:
        _mount("-t", "tmpfs", "-o", "mode=755,size=32m", "tmpfs", str(NEW_ROOT))
        table = NEW_ROOT / "mounts"
        table.write_text("".join(f"{line} 0 0\n" for line in _mounts(visible, size_mb, owner)), encoding="utf-8")
        _copy_etc()
        _name(owner)
        _link_devices()
        _mount("-a", "-T", str(table))
        table.unlink()
        (NEW_ROOT / "old").mkdir()
        _tool("pivot_root", str(NEW_ROOT), str(NEW_ROOT / "old"))
        os.chdir("/")
        _tool("umount", "-l", "/old")
        Path("/old").rmdir()
        _mount("-o", "remount,bind,ro", "/")
    except OSError as error:
        raise NotIsolatedError(f"{error.filename}: {error.strerror}") from error


def _mounts(visible: Sequence[str], size_mb: int, owner: tuple[int, int]) -> Iterator[str]:
    """The lines of a table as in fstab; makes what they mount on."""
    for name in SYSTEM:
        host = Path("/", name)
        if host.is_symlink():
            (NEW_ROOT / name).symlink_to(host.readlink())
        elif host.is_dir():
            yield _shown(host)
    for path in visible:
        if Path(path).parts[1] not in SYSTEM:
            yield _shown(Path(path))
    for name in DEVICES:
        yield f"/dev/{name} {_made(Path('/dev', name))} none bind"
    folder = f"size={size_mb}m,nr_inodes=20000,uid={owner[0]},gid={owner[1]},nosuid,nodev"
    for own in OWN_FOLDERS:
        (NEW_ROOT / own[1:]).mkdir()
        yield f"tmpfs {NEW_ROOT}{own} tmpfs mode=700,{folder}"
    (NEW_ROOT / "proc").mkdir()
    yield f"proc {NEW_ROOT}/proc proc nosuid,nodev,noexec"


def _shown(host: Path) -> str:
    if not host.exists():
        raise NotIsolatedError(f"there is no {host} to be shown to the command")
    keeps_noexec = ",noexec" if os.statvfs(host).f_flag & os.ST_NOEXEC else ""
    return f"{_escaped(host.resolve())} {_escaped(_made(host))} none rbind,ro,nosuid,nodev{keeps_noexec}"


def _made(host: Path) -> Path:
    """An empty folder or file at the same place under the new root."""
    target = NEW_ROOT / host.relative_to("/")
    if host.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    return target


def _escaped(path: Path) -> str:
    return "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\#" else letter for letter in str(path))


def _copy_etc() -> None:
    etc = NEW_ROOT / "etc"
    etc.mkdir(exist_ok=True)
    for name in ETC:
        host = Path("/etc", name)
        if host.is_dir() and not host.is_symlink():
            shutil.copytree(host, etc / name, symlinks=True)
        elif host.exists():
            shutil.copy2(host, etc / name, follow_symlinks=False)


def _name(owner: tuple[int, int]) -> None:
    """Programs ask what their user is called. In a namespace of its own (0) it has the name it has outside."""
    if owner[0] != 0:
        with (NEW_ROOT / "etc" / "passwd").open("a", encoding="utf-8") as file:
            file.write(f"command:x:{owner[0]}:{owner[1]}::/work:/bin/sh\n")


def _link_devices() -> None:
    devices = NEW_ROOT / "dev"
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (devices / name).symlink_to(f"/proc/self/{target}")
    (devices / "shm").symlink_to("../tmp")


def _mount(*arguments: str) -> None:
    _tool("mount", *arguments)


def _tool(name: str, *arguments: str) -> None:
    done = subprocess.run([name, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotIsolatedError(" ".join(done.stderr.split()) or f"{name} ended with {done.returncode}")
