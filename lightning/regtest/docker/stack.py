"""The network as containers, by `regtest-compose.yml`: the same hands on it, and a gateway with its parts beside."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lightning.regtest import processes
from lightning.regtest.control import open_when_ready
from lightning.regtest.docker.client import DockerError, require_engine
from lightning.regtest.docker.compose import Compose, ensure_compose
from lightning.regtest.docker.containers import Containers
from lightning.regtest.docker.credentials import ADMIN_MACAROON
from lightning.regtest.docker.images import CHECKOUT, Images, ensure_images
from lightning.regtest.docker.secrets import DATABASE_USER
from lightning.regtest.envfile import NetworkAccess
from lightning.regtest.errors import RegtestError
from lightning.regtest.filelock import locked
from lightning.regtest.lnd_process import LndPlace
from lightning.regtest.network import LNDS, LOCK_FILE, Network, NodeStatus
from lightning.regtest.ports import choose_ports
from lightning.regtest.progress import Progress
from lightning.regtest.state import (
    DockerPlace,
    NetworkState,
    Ports,
    ProcessId,
    load_state,
    write_private,
)

COMPOSE_FILE: Final = CHECKOUT / "regtest-compose.yml"
SERVICE_OF: Final = {"bitcoind": "bitcoind", "gateway": "lnd-gateway", "payer": "lnd-payer"}
"""The nodes' names in the network, and as services: there `gateway` is boltworks itself."""
BOLTWORKS: Final = ("gateway", "worker", "watcher")
SERVICES: Final = (*SERVICE_OF.values(), "postgres", *BOLTWORKS)
"""All that run; the rest are one-shots."""
HEALTHY_TIMEOUT_S: Final = 180.0
P2P_PORT: Final = 9735


@dataclass(frozen=True, slots=True)
class ContainerPlace(LndPlace):
    """An LND that its peer reaches by its service's name."""

    @property
    def peer_address(self) -> str:
        return f"{SERVICE_OF[self.name]}:{self.p2p_port}"


@dataclass(frozen=True, slots=True)
class StackAccess(NetworkAccess):
    """The gateway of the stack and its database, too."""

    gateway_url: str = ""
    database_url: str = field(default="", repr=False)
    operator_key: str = field(default="", repr=False)

    def settings(self) -> dict[str, str]:
        return {
            **NetworkAccess.settings(self),
            "REGTEST_GATEWAY_URL": self.gateway_url,
            "REGTEST_DATABASE_URL": self.database_url,
            "REGTEST_OPERATOR_KEY": self.operator_key,
        }


class DockerNetwork(Network):
    """A stack in `directory`, running or not. State and credentials are kept there, all else by docker."""

    def __init__(self, directory: Path, progress: Progress | None = None) -> None:
        super().__init__(directory, progress)
        self._images: Images | None = None
        self._compose_command: tuple[str, ...] | None = None

    # What is there

    @property
    def docker(self) -> DockerPlace:
        place = self.state.docker
        if place is None:
            raise RegtestError(f"The network in {self.directory} runs as native processes.")
        return place

    @property
    def containers(self) -> Containers:
        """The hands on single services, for those who break them."""
        return Containers(self.docker.project)

    @property
    def images(self) -> Images:
        if self._images is None:
            self._images = ensure_images(self._progress)
        return self._images

    def is_running(self) -> bool:
        """Whether it is ready and each service runs; `containers.wait_healthy` waits until they are usable."""
        state = load_state(self.directory)
        return state is not None and state.ready and all(self._runs(service) for service in SERVICES)

    def _runs(self, service: str) -> bool:
        seen = self.containers.seen(service)
        return seen is not None and seen.running

    def is_alive(self, name: str) -> bool:
        """The miner is the only one that is a process of this machine."""
        return self._pid(name) is not None if name in SERVICE_OF else super().is_alive(name)

    def place(self, name: str) -> LndPlace:
        ports = self.state.ports
        rpc = {"gateway": ports.gateway_rpc, "payer": ports.payer_rpc}[name]
        return ContainerPlace(name, self.directory / name, rpc, P2P_PORT)

    @property
    def access(self) -> StackAccess:
        base = super().access
        return StackAccess(
            base.directory,
            base.boltworks,
            base.gateway,
            base.payer,
            base.bitcoind_rpc,
            gateway_url=f"http://127.0.0.1:{self.docker.gateway}",
            database_url=self.database_url(DATABASE_USER),
            operator_key=self._kept("operator_key"),
        )

    def database_url(self, name: str) -> str:
        """PostgreSQL of the stack, seen from outside. The role may make databases."""
        password, port = self._kept("database_password"), self.docker.postgres
        return f"postgresql://{DATABASE_USER}:{password}@127.0.0.1:{port}/{name}"

    @property
    def log_names(self) -> Sequence[str]:
        return (*SERVICE_OF, "postgres", "boltworks", "worker", "watcher")

    def log_file(self, name: str) -> Path:
        """What the container has written, copied."""
        path = self.directory / "logs" / f"{name}.log"
        service = "gateway" if name == "boltworks" else SERVICE_OF.get(name, name)
        write_private(path, self.containers.logs(service, 100_000) + "\n")
        return path

    def keep_logs(self, folder: Path) -> None:
        """What each container has written, for a look when they are gone."""
        for name in self.log_names:
            write_private(folder / f"{name}.log", self.log_file(name).read_bytes())

    def status(self) -> list[NodeStatus]:
        place = self.docker
        addresses = {"postgres": f"127.0.0.1:{place.postgres}", "gateway": f"127.0.0.1:{place.gateway}"}
        return [
            *super().status(),
            *(self._service_status(service, addresses.get(service, "")) for service in ("postgres", *BOLTWORKS)),
        ]

    def _service_status(self, service: str, address: str) -> NodeStatus:
        shown = "boltworks" if service == "gateway" else service
        seen = self.containers.seen(service)
        if seen is None or not seen.running:
            return NodeStatus(shown, None, address, "not running")
        return NodeStatus(shown, seen.pid, address, "paused" if seen.paused else seen.health)

    # Up and down

    def down(self, *, purge: bool = False) -> bool:
        """Stops its containers; with `purge` removes them, their volumes, and the files here."""
        if load_state(self.directory) is None:
            return False
        with locked(self.directory / LOCK_FILE):
            self._forget_controls(LNDS)
            state = load_state(self.directory)
            if state is None:
                return False
            self._end_miner(state)
            compose = self._compose({})
            if purge:
                compose.run("down", "--volumes", "--remove-orphans", "--timeout", "10")
                self._remove_files()
            else:
                compose.run("stop", "--timeout", "15")
        return True

    def _end_miner(self, state: NetworkState) -> None:
        miner = state.processes.get("miner")
        if miner is not None and miner.pid != os.getpid():
            processes.stop([miner])
        self._update(processes={})

    # Single nodes

    def start(self, name: str) -> None:
        if self.is_alive(name):
            return
        self._forget_controls([name])
        self.containers.start(SERVICE_OF[name])
        if name == "bitcoind":
            self._bitcoind_is_new = True
            self._start_miner()

    def stop(self, name: str) -> None:
        self._forget_controls([name])
        self.containers.stop(SERVICE_OF[name])

    def kill(self, name: str) -> None:
        self._forget_controls([name])
        self.containers.kill(SERVICE_OF[name])

    def pause(self, name: str) -> None:
        self.containers.pause(SERVICE_OF[name])

    def resume(self, name: str) -> None:
        """It need not be paused."""
        seen = self.containers.seen(SERVICE_OF[name])
        if seen is not None and seen.paused:
            self.containers.resume(SERVICE_OF[name])

    # Inside

    def _get_programs(self) -> None:
        require_engine()
        self._compose_command = ensure_compose(self._progress)
        self._images = ensure_images(self._progress)

    def _new_state(self, owner: ProcessId | None) -> NetworkState:
        """The password is made inside; it is read when the stack runs."""
        bitcoind, gateway, payer, postgres, boltworks = choose_ports(5)
        ports = Ports(bitcoind, 0, 0, gateway, 0, payer, 0)
        project = f"boltworks-{secrets.token_hex(4)}"
        return NetworkState(ports, "", owner=owner, docker=DockerPlace(project, postgres, boltworks))

    def _start_nodes(self) -> None:
        for name in SERVICE_OF:
            self.resume(name)
        with self._progress.phase("Starting the containers") as phase:
            words = ("up", "--detach", "--wait", "--wait-timeout", f"{HEALTHY_TIMEOUT_S:.0f}", "--no-build")
            self._compose(self.images.environment()).run(*words, on_line=phase.update)
            self._fetch_files()
        with self._progress.phase("Waiting for the nodes"):
            self.wait_ready("bitcoind")
            self._prepare_chain()
            for name in LNDS:
                self.wait_ready(name)

    def _fetch_files(self) -> None:
        """Certificates, macaroons and passwords, which were made inside."""
        containers = self.containers
        for name in LNDS:
            place, service = self.place(name), SERVICE_OF[name]
            write_private(place.tls_cert, containers.read(service, "/data/tls.cert", self.directory))
            write_private(place.admin_macaroon, containers.read(service, f"/data/{ADMIN_MACAROON}", self.directory))
        password = containers.read("bitcoind", "/run/chain/rpc_password", self.directory).decode()
        kept = {
            "database_password": containers.read("postgres", "/run/database/password", self.directory),
            "operator_key": containers.read("gateway", "/run/boltworks/operator_key", self.directory),
            "webhook_secret": containers.read("gateway", "/run/boltworks/webhook_secret", self.directory),
        }
        for name, content in kept.items():
            write_private(self.directory / "secrets" / name, content)
        self._update(rpc_password=password)

    def _kept(self, name: str) -> str:
        return (self.directory / "secrets" / name).read_text()

    def _wait_lnd(self, name: str, timeout_s: float) -> None:
        control = open_when_ready(self.place(name).access(), lambda: True, timeout_s)
        self._forget_controls([name])
        self._controls[name] = control

    def _pid(self, name: str) -> int | None:
        seen = self.containers.seen(SERVICE_OF[name])
        return seen.pid if seen is not None and seen.running else None

    def _compose(self, images: Mapping[str, str]) -> Compose:
        if not COMPOSE_FILE.exists():
            raise DockerError(
                "The docker stack is started from a checkout of boltworks, which has regtest-compose.yml."
            )
        if self._compose_command is None:
            self._compose_command = ensure_compose(self._progress)
        ports, place = self.state.ports, self.docker
        env = {
            **os.environ,
            **images,
            "REGTEST_BITCOIND_PORT": str(ports.bitcoind_rpc),
            "REGTEST_GATEWAY_LND_PORT": str(ports.gateway_rpc),
            "REGTEST_PAYER_LND_PORT": str(ports.payer_rpc),
            "REGTEST_POSTGRES_PORT": str(place.postgres),
            "REGTEST_GATEWAY_PORT": str(place.gateway),
        }
        return Compose(self._compose_command, COMPOSE_FILE, place.project, env)

    def _environment(self) -> dict[str, str]:
        """The miner, which may have to take the stack down, needs docker's own settings and the cache."""
        return {**os.environ, **super()._environment(), "HOME": os.environ.get("HOME", str(self.directory))}

    def _remove_files(self) -> None:
        shutil.rmtree(self.directory / "secrets", ignore_errors=True)
        super()._remove_files()
