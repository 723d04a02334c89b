"""What a network remembers between commands: one JSON file, mode 0600, replaced in one step."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from lightning.regtest.ports import choose_ports

STATE_FILE: Final = "regtest.json"
FORMAT: Final = 1
PORTS_NEEDED: Final = 7


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process and when it started: a pid alone is given away again."""

    pid: int
    born: str


@dataclass(frozen=True, slots=True)
class Ports:
    """All on 127.0.0.1; chosen once and kept."""

    bitcoind_rpc: int
    zmq_block: int
    zmq_tx: int
    gateway_rpc: int
    gateway_p2p: int
    payer_rpc: int
    payer_p2p: int


@dataclass(frozen=True, slots=True)
class DockerPlace:
    """Of a network of containers: its Compose project, and two more ports."""

    project: str
    postgres: int
    gateway: int


@dataclass(frozen=True, slots=True)
class NetworkState:
    ports: Ports
    rpc_password: str = field(repr=False)
    processes: dict[str, ProcessId] = field(default_factory=dict)
    """By name: `bitcoind`, `gateway`, `payer`, `miner`."""
    ready: bool = False
    """Channels are open and a payment has succeeded each way."""
    owner: ProcessId | None = None
    """The network is taken down and removed when this process ends."""
    docker: DockerPlace | None = None
    """None: native processes."""


class BadState(Exception):
    """The state file is not one that this version wrote."""


def new_state(owner: ProcessId | None = None) -> NetworkState:
    """Fresh ports and a fresh password. Raises ports.NoFreePorts."""
    ports: Sequence[int] = choose_ports(PORTS_NEEDED)
    return NetworkState(Ports(*ports), secrets.token_urlsafe(32), owner=owner)


def load_state(directory: Path) -> NetworkState | None:
    """None when there is no network in `directory`. Raises BadState."""
    path = directory / STATE_FILE
    try:
        return parse_state(path.read_text())
    except FileNotFoundError:
        return None
    except BadState as error:
        raise BadState(f"{path}: {error}") from error


def save_state(directory: Path, state: NetworkState) -> None:
    write_private(directory / STATE_FILE, json.dumps({"format": FORMAT, **asdict(state)}, indent=2) + "\n")


def parse_state(text: str) -> NetworkState:
    """Raises BadState."""
    try:
        raw: dict[str, Any] = json.loads(text)
        if raw.pop("format") != FORMAT:
            raise BadState("written by another version; `regtest down --purge` with that one, or remove it")
        owner, docker = raw.pop("owner"), raw.pop("docker", None)
        return NetworkState(
            ports=Ports(**raw.pop("ports")),
            processes={name: ProcessId(**value) for name, value in raw.pop("processes").items()},
            owner=ProcessId(**owner) if owner else None,
            docker=DockerPlace(**docker) if docker else None,
            **raw,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadState(f"not a state file ({error})") from error


def write_private(path: Path, text: str | bytes) -> None:
    """Writes with mode 0600 from the first byte on, and in one step for readers."""
    data = text.encode() if isinstance(text, str) else text
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "wb") as out:
        out.write(data)
    beside.replace(path)
