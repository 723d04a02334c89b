"""What stands between docker and the network: names, versions, files, and what is said when docker is not there."""

from __future__ import annotations

import stat
import tarfile
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.healthy import OLDEST_BEAT_S, beats, server_is_ready
from lightning.regtest.cli import regtest as regtest_command
from lightning.regtest.docker import rootfs, secrets
from lightning.regtest.docker.client import DockerError, engine_answers, require_engine
from lightning.regtest.docker.compose import parse_version
from lightning.regtest.docker.containers import read_state
from lightning.regtest.docker.images import CHECKOUT, POSTGRES, source_hash
from lightning.regtest.docker.stack import DockerNetwork
from lightning.regtest.docker.wheels import LEFT_OUT, locked_lines, needed
from lightning.regtest.network import Network, RegtestError, open_network
from lightning.regtest.ports import choose_ports
from lightning.regtest.state import DockerPlace, NetworkState, Ports, load_state, new_state, save_state


@pytest.mark.parametrize(
    ("text", "version"),
    [("2.40.3-3\n", (2, 40)), ("v2.20.0", (2, 20)), ("1.29.2", (1, 29)), ("5.1.0", (5, 1)), ("", (0, 0))],
)
def test_a_version_of_compose_is_read(text: str, version: tuple[int, int]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("state", "usable"),
    [
        ({"Running": True, "Paused": False, "Pid": 7, "Health": {"Status": "healthy"}}, True),
        ({"Running": True, "Paused": True, "Pid": 7, "Health": {"Status": "healthy"}}, False),
        ({"Running": True, "Paused": False, "Pid": 7, "Health": {"Status": "starting"}}, False),
        ({"Running": False, "Paused": False, "Pid": 0, "Health": {"Status": "healthy"}}, False),
        ({"Running": True, "Paused": False, "Pid": 7}, False),
        ({"Running": True, "Paused": False, "Pid": 7, "Health": None}, False),
    ],
)
def test_usable_means_running_and_healthy(state: dict[str, object], usable: bool) -> None:
    assert read_state(state).usable is usable


def test_without_an_engine_one_line_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert not engine_answers()
    with pytest.raises(DockerError, match="scripts/docker-engine start"):
        require_engine()
    outcome = CliRunner().invoke(regtest_command, ["up", "--docker", "--dir", str(tmp_path / "net")])
    assert outcome.exit_code == 1
    assert "docker-engine start" in outcome.output
    assert not (tmp_path / "net/regtest.json").exists()


def test_without_a_client_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not engine_answers()


def _docker_state() -> NetworkState:
    return NetworkState(Ports(1, 0, 0, 2, 0, 3, 0), "pass word", docker=DockerPlace("boltworks-1", 4, 5))


def test_a_state_of_containers_is_read_back(tmp_path: Path) -> None:
    save_state(tmp_path, _docker_state())
    assert load_state(tmp_path) == _docker_state()


def test_the_directory_says_which_kind_it_is(tmp_path: Path) -> None:
    save_state(tmp_path / "containers", _docker_state())
    save_state(tmp_path / "native", new_state())
    assert isinstance(open_network(tmp_path / "containers"), DockerNetwork)
    assert type(open_network(tmp_path / "native")) is Network
    assert isinstance(open_network(tmp_path / "new", docker=True), DockerNetwork)
    assert type(open_network(tmp_path / "new")) is Network
    with pytest.raises(RegtestError, match="native processes"):
        open_network(tmp_path / "native", docker=True)


def test_secrets_are_made_once_and_agree(tmp_path: Path) -> None:
    for name in ("chain", "database", "gateway", "watcher"):
        (tmp_path / name).mkdir()
    secrets.main(tmp_path)
    first = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    secrets.main(tmp_path)
    assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == first
    assert first[tmp_path / "gateway/webhook_secret"] == first[tmp_path / "watcher/webhook_secret"]
    assert first[tmp_path / "database/password"] in first[tmp_path / "gateway/database_url"]
    assert first[tmp_path / "chain/rpc_password"] in first[tmp_path / "chain/bitcoin.conf"]
    assert first[tmp_path / "chain/rpc_password"] in first[tmp_path / "chain/lnd.conf"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in first} == {0o444}
    assert "operator_key" not in {path.name for path in (tmp_path / "watcher").iterdir()}


def test_a_root_file_system_is_packed_as_roots_and_its_data_as_the_users(tmp_path: Path) -> None:
    tree = tmp_path / "root"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/share/ca-certificates/a").mkdir(parents=True)
    (tree / "usr/share/ca-certificates/a/one.crt").write_text("ONE\n")
    rootfs.finish(tree)
    rootfs.pack(tree, tmp_path / "rootfs.tar", {"data": 0o700})
    with tarfile.open(tmp_path / "rootfs.tar") as tar:
        members = {member.name: member for member in tar.getmembers()}
    assert (members["data"].uid, members["data"].mode, members["data"].isdir()) == (rootfs.USER_ID, 0o700, True)
    assert (members["tmp"].mode, members["bin"].linkname) == (0o1777, "usr/bin")
    assert {member.uid for name, member in members.items() if name != "data"} == {0}
    assert (tree / "etc/ssl/certs/ca-certificates.crt").read_text() == "ONE\n"


def test_only_what_runs_is_packed_and_all_of_it_is_locked() -> None:
    names = needed()
    assert {"aiohttp", "asyncpg", "grpcio", "lnd-grpc-client", "typst", "uvloop"} <= names
    assert not names & {"pytest", "mypy", "playwright", *LEFT_OUT}
    lines = locked_lines((CHECKOUT / "requirements.lock").read_text(), names)
    assert lines.count("==") == len(names)
    assert lines.count("--hash=") >= len(names)


def test_a_package_that_is_not_locked_is_named() -> None:
    with pytest.raises(DockerError, match="no unheard-of"):
        locked_lines("aiohttp==1 \\\n    --hash=sha256:00\n", {"unheard-of"})


def test_the_gateways_image_is_named_by_its_sources(tmp_path: Path) -> None:
    for name in ("gateway", "ledger", "lightning", "templates"):
        (tmp_path / name / "__pycache__").mkdir(parents=True)
        (tmp_path / name / "a.py").write_text("1")
    for name in ("requirements.lock", "pyproject.toml", "Containerfile"):
        (tmp_path / name).write_text("1")
    first = source_hash(tmp_path, "base")
    (tmp_path / "ledger/__pycache__/a.pyc").write_text("x")
    assert source_hash(tmp_path, "base") == first
    assert source_hash(tmp_path, "another base") != first
    (tmp_path / "ledger/a.py").write_text("2")
    assert source_hash(tmp_path, "base") != first


def test_no_library_of_postgres_is_left_out() -> None:
    assert not any("libssl3".startswith(name) or "libc6".startswith(name) for name in POSTGRES.left_out)


def test_a_beat_is_fresh_or_it_is_none(tmp_path: Path) -> None:
    file = tmp_path / "alive"
    assert not beats(file, time.time())
    file.touch()
    touched = file.stat().st_mtime
    assert beats(file, touched + OLDEST_BEAT_S)
    assert not beats(file, touched + OLDEST_BEAT_S + 1)


def test_a_server_that_does_not_listen_is_not_ready() -> None:
    assert not server_is_ready(f"0.0.0.0:{choose_ports(1)[0]}")
