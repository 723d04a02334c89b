"""Names, modes and locks of the embedded PostgreSQL's folder; no server."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ledger.embedded.errors import EmbeddedPostgresError
from ledger.embedded.files import (
    ClusterFiles,
    check_private_folder,
    make_folder,
    make_private_folder,
    open_private,
    write_private,
)
from ledger.embedded.locks import is_held, lock_within, try_lock
from ledger.embedded.server import EmbeddedPostgres

SUN_PATH_BYTES = 108


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folders_are_made_for_us_alone(tmp_path: Path) -> None:
    files = ClusterFiles.of(tmp_path / "data")
    make_folder(files)
    assert mode(tmp_path / "data") == 0o700
    assert mode(files.folder) == 0o700


def test_a_data_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    data_dir.chmod(0o755)
    make_folder(ClusterFiles.of(data_dir))
    assert mode(data_dir) == 0o755


def test_a_data_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedPostgresError, match="cannot make the folder") as raised:
        make_folder(ClusterFiles.of(tmp_path / "file"))
    assert "\n" not in str(raised.value)


def test_sockets_lie_in_run_when_their_path_is_short_enough(tmp_path: Path) -> None:
    files = ClusterFiles(Path("/srv/boltworks/postgres"))
    assert files.socket_folder() == files.run


@pytest.mark.parametrize("extra", range(3))
def test_no_socket_path_is_longer_than_the_kernel_takes(tmp_path: Path, extra: int) -> None:
    longest_folder_bytes = SUN_PATH_BYTES - 1 - len("/postgres/run/.s.PGSQL.5432")
    padding = longest_folder_bytes - len(os.fsencode(tmp_path)) - 1 + extra - 1
    files = ClusterFiles.of(tmp_path / ("x" * padding))
    make_folder(files)
    socket = files.socket_folder() / ".s.PGSQL.5432"
    assert len(os.fsencode(socket)) < SUN_PATH_BYTES
    assert (files.socket_folder() == files.run) is (extra < 2)


def test_two_long_data_directories_do_not_share_a_short_folder(tmp_path: Path) -> None:
    folders = set()
    for name in ("a" * 120, "b" * 120):
        files = ClusterFiles.of(tmp_path / name)
        make_folder(files)
        folders.add(files.socket_folder())
    assert len(folders) == 2


def test_a_private_folder_open_to_others_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    make_private_folder(folder, os.geteuid(), os.getegid())
    assert mode(folder) == 0o700
    folder.chmod(0o750)
    with pytest.raises(EmbeddedPostgresError, match="mode 0700"):
        make_private_folder(folder, os.geteuid(), os.getegid())


def test_a_link_in_place_of_a_private_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EmbeddedPostgresError, match="look who made it"):
        make_private_folder(tmp_path / "run", os.geteuid(), os.getegid())


def test_a_private_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(EmbeddedPostgresError, match="should be a folder of"):
        check_private_folder(tmp_path, os.geteuid() + 1)


def test_a_private_file_is_0600_and_never_a_link(tmp_path: Path) -> None:
    secret = tmp_path / "role.password"
    write_private(secret, "first, and longer")
    write_private(secret, "second")
    assert (secret.read_text(), mode(secret)) == ("second", 0o600)
    (tmp_path / "link").symlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"):
        open_private(tmp_path / "link")


def test_locks_are_shared_by_users_and_exclusive_for_one(tmp_path: Path) -> None:
    path = tmp_path / "users.lock"
    first, second = open_private(path), open_private(path)
    try:
        assert try_lock(first, shared=True)
        assert try_lock(second, shared=True)
        assert not is_held(path)
        assert not try_lock(second)
        assert try_lock(first), "the other one lost its lock when it could not have it alone"
        assert is_held(path)
        assert not lock_within(second, 0.0)
    finally:
        os.close(first)
        assert try_lock(second)
        os.close(second)


def test_the_address_for_people_holds_no_password_and_odd_folders_are_quoted(tmp_path: Path) -> None:
    files = ClusterFiles.of(tmp_path / "a b&c")
    make_folder(files)
    write_private(files.password("boltworks"), "p@ss/word")
    server = EmbeddedPostgres(files, files.run)
    assert server.dsn.startswith("postgresql://boltworks:p%40ss%2Fword@/boltworks?host=/")
    assert server.dsn.endswith("/a%20b%26c/postgres/run")
    for shown in (server.safe_dsn, server.psql_command, repr(server)):
        assert "p@ss" not in shown
        assert "p%40ss" not in shown
