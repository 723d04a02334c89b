"""The state file and the env file: complete, private, and refused when foreign."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lightning.regtest import processes
from lightning.regtest.envfile import NetworkAccess, NodeAccess, render, write_env_file
from lightning.regtest.filelock import locked
from lightning.regtest.network import Network, RegtestError
from lightning.regtest.state import BadState, ProcessId, load_state, new_state, parse_state, save_state


def test_a_state_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    state = replace(
        new_state(ProcessId(7, "boot:1")), processes={"bitcoind": ProcessId(42, "boot:99")}, ready=True
    )  # fmt: skip
    save_state(tmp_path, state)
    assert load_state(tmp_path) == state


def test_the_state_file_is_private_and_alone(tmp_path: Path) -> None:
    save_state(tmp_path, new_state())
    (only,) = tmp_path.iterdir()
    assert stat.S_IMODE(only.stat().st_mode) == 0o600


def test_no_state_file_is_no_network(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1}', '{"format": 1, "owner": 3}'])
def test_a_foreign_state_file_is_refused(text: str) -> None:
    with pytest.raises(BadState):
        parse_state(text)


def test_the_password_is_in_no_repr() -> None:
    state = new_state()
    assert len(state.rpc_password) >= 32
    assert state.rpc_password not in repr(state)


def test_passwords_differ() -> None:
    assert new_state().rpc_password != new_state().rpc_password


def _access(directory: Path) -> NetworkAccess:
    node = NodeAccess("127.0.0.1:20001", directory / "tls.cert", directory / "some.macaroon")
    return NetworkAccess(directory, node, node, node, "http://u:secret@127.0.0.1:20000")


def test_the_env_file_has_every_key_with_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_env_file(tmp_path / "regtest.env", _access(Path("net")))
    lines = dict(line.split("=", 1) for line in (tmp_path / "regtest.env").read_text().splitlines())
    nodes = ("BOLTWORKS", "REGTEST_GATEWAY", "REGTEST_PAYER")
    of_nodes = {f"{node}_LND_{what}" for node in nodes for what in ("HOST", "TLS_CERT", "MACAROON")}
    assert set(lines) == of_nodes | {"REGTEST_BITCOIND_RPC", "BOLTWORKS_REGTEST_DIR", "BOLTWORKS_DEMO_WALLET"}
    assert lines["BOLTWORKS_LND_TLS_CERT"] == str(tmp_path / "net/tls.cert")
    assert lines["BOLTWORKS_REGTEST_DIR"] == str(tmp_path / "net")


def test_the_env_file_is_private_also_when_it_was_not(tmp_path: Path) -> None:
    path = tmp_path / "regtest.env"
    path.write_text("old")
    path.chmod(0o644)
    write_env_file(path, _access(tmp_path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "old" not in path.read_text()


def test_the_access_hides_bitcoinds_password(tmp_path: Path) -> None:
    assert "secret" not in repr(_access(tmp_path))


def test_lines_are_key_and_value() -> None:
    assert render({"A": "1", "B": "x y"}) == "A=1\nB=x y\n"


def test_a_process_is_known_by_pid_and_birth() -> None:
    me = processes.myself()
    assert processes.is_alive(me)
    assert not processes.is_alive(replace(me, born="another boot:1"))
    assert not processes.is_alive(replace(me, born=""))
    assert not processes.is_alive(None)


def test_a_strangers_pid_gets_no_signal() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        processes.stop([ProcessId(stranger.pid, "another boot:1")])
        assert stranger.poll() is None
        stranger.communicate(b"\n")
    assert stranger.returncode == 0


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    program = "import signal,sys; signal.signal(15, signal.SIG_IGN); open(sys.argv[1], 'w').close(); signal.pause()"
    process = processes.spawn([sys.executable, "-c", program, str(ready)], tmp_path / "log", dict(os.environ))
    ready.read_text()
    processes.stop([process], timeout_s=0.2)
    assert not processes.is_alive(process)


def test_a_lock_keeps_others_out_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    vain: list[bool] = []

    class GaveUp(Exception):
        pass

    def give_up() -> None:
        vain.append(True)
        raise GaveUp

    with locked(path), pytest.raises(GaveUp), locked(path, while_waiting=give_up):
        pytest.fail("two held one lock")
    with locked(path, while_waiting=give_up):
        assert vain == [True]


def test_down_touches_no_folder_that_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "bitcoind").mkdir()
    assert not Network(tmp_path).down(purge=True)
    assert (tmp_path / "bitcoind").exists()


def test_purge_leaves_what_is_not_ours(tmp_path: Path) -> None:
    save_state(tmp_path, new_state())
    (tmp_path / "logs").mkdir()
    (tmp_path / "mine.txt").write_text("keep")
    assert Network(tmp_path).down(purge=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_kept_port_that_is_taken_is_named(tmp_path: Path) -> None:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        state = new_state()
        save_state(tmp_path, replace(state, ports=replace(state.ports, bitcoind_rpc=port)))
        with pytest.raises(RegtestError, match=rf"port {port} .* in use"):
            Network(tmp_path).start("bitcoind")
