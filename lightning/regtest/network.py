"""The network as a whole: one bitcoind and the LND nodes `gateway` and `payer`, with channels balanced both ways.

Everything it knows is in its directory, so any process can take it up again. Synchronous.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from lightning.permissions import GATEWAY_PERMISSIONS, WATCHER_PERMISSIONS
from lightning.regtest import bitcoind, lnd_process, processes
from lightning.regtest.binaries import Binaries, ensure_binaries
from lightning.regtest.bitcoind import BitcoindError, BitcoindRpc, BitcoindUnavailable
from lightning.regtest.control import AsyncControl, NodeControl, NodeError, NotReady, open_when_ready
from lightning.regtest.envfile import NetworkAccess, write_env_file
from lightning.regtest.errors import RegtestError as RegtestError
from lightning.regtest.filelock import locked
from lightning.regtest.lnd_process import LndPlace
from lightning.regtest.ports import port_is_free
from lightning.regtest.progress import Progress
from lightning.regtest.state import (
    STATE_FILE,
    NetworkState,
    ProcessId,
    load_state,
    new_state,
    save_state,
    write_private,
)

T = TypeVar("T")

LNDS: Final = ("gateway", "payer")
NODES: Final = ("bitcoind", *LNDS)
CHANNELS: Final = 2
CHANNEL_SATS: Final = 16_000_000
WALLET_SATS: Final = 200_000_000
PROOF_SATS: Final = 1_000
"""What is paid each way before the network counts as up."""
CONFIRMATIONS: Final = 6
READY_TIMEOUT_S: Final = 60.0
STEP_TIMEOUT_S: Final = 30.0
POLL_EVERY_S: Final = 0.05
BLOCK_HEARD_S: Final = 1.0
FRESH_TIP_S: Final = 1800
LOCK_FILE: Final = ".lock"
BAKED: Final = {"gateway.macaroon": GATEWAY_PERMISSIONS, "watcher.macaroon": WATCHER_PERMISSIONS}


@dataclass(frozen=True, slots=True)
class NodeStatus:
    name: str
    pid: int | None
    """None: not running."""
    address: str
    """`host:port` of its RPC."""
    problem: str = ""
    """Why the rest is not known."""
    height: int | None = None
    synced: bool | None = None
    """The rest is of an LND only."""
    channels: int | None = None
    balance_sats: int | None = None
    pubkey: str | None = None

    @property
    def detail(self) -> str:
        """One line for a person."""
        if self.problem or self.pubkey is None:
            return self.problem or f"height {self.height}"
        synced = "synced" if self.synced else "not synced"
        return (
            f"{synced} at height {self.height}, {self.channels} channels, {self.balance_sats:,} sats, key {self.pubkey}"
        )


class Network:
    """A regtest network in `directory`, running or not. One object may be used from several threads."""

    def __init__(self, directory: Path, progress: Progress | None = None, *, channels: int = CHANNELS) -> None:
        """`channels`: how many are opened, at most 12; an existing network must be given the same number again."""
        self.directory = directory.expanduser().resolve()
        self._channels = channels
        self._progress = progress or Progress(quiet=True)
        self._controls: dict[str, NodeControl] = {}
        self._binaries: Binaries | None = None
        self._bitcoind_is_new = False

    def __repr__(self) -> str:
        return f"Network({str(self.directory)!r})"

    # What is there

    def exists(self) -> bool:
        return load_state(self.directory) is not None

    @property
    def state(self) -> NetworkState:
        """Raises RegtestError when there is no network in the directory."""
        state = load_state(self.directory)
        if state is None:
            raise RegtestError(f"There is no regtest network in {self.directory}; `boltworks regtest up` makes one.")
        return state

    def is_running(self) -> bool:
        """Whether it is ready and all three nodes live."""
        state = load_state(self.directory)
        return state is not None and state.ready and all(map(processes.is_alive, map(state.processes.get, NODES)))

    def is_alive(self, name: str) -> bool:
        return processes.is_alive(self.state.processes.get(name))

    def place(self, name: str) -> LndPlace:
        """Where the LND `name` (`gateway` or `payer`) is."""
        ports = self.state.ports
        rpc, p2p = {
            "gateway": (ports.gateway_rpc, ports.gateway_p2p),
            "payer": (ports.payer_rpc, ports.payer_p2p),
        }[name]
        return LndPlace(name, self.directory / name, rpc, p2p)

    @property
    def access(self) -> NetworkAccess:
        """How other programs get in."""
        gateway, payer = self.place("gateway"), self.place("payer")
        return NetworkAccess(
            directory=self.directory,
            boltworks=gateway.access(self.directory / "gateway" / "gateway.macaroon"),
            gateway=gateway.access(),
            payer=payer.access(),
            bitcoind_rpc=bitcoind.rpc_url(self.state),
        )

    @property
    def watcher_macaroon(self) -> Path:
        """The gateway node's macaroon that reads invoices only."""
        return self.directory / "gateway" / "watcher.macaroon"

    @property
    def bitcoind(self) -> BitcoindRpc:
        state = self.state
        return BitcoindRpc(state.ports.bitcoind_rpc, state.rpc_password)

    def control(self, name: str) -> NodeControl:
        """The hand on the LND `name`. Raises RegtestError when it is not running."""
        if name not in self._controls:
            if not self.is_alive(name):
                raise RegtestError(f"{name} is not running; `boltworks regtest up` starts it.")
            self._controls[name] = NodeControl(self.place(name).access())
        return self._controls[name]

    def async_control(self, name: str) -> AsyncControl:
        """The same for coroutines, in any event loop."""
        return AsyncControl(partial(self.control, name))

    @property
    def log_names(self) -> Sequence[str]:
        return NODES

    def log_file(self, name: str) -> Path:
        """The log of `bitcoind`, `gateway` or `payer`."""
        if name == "bitcoind":
            return self.directory / "bitcoind" / "regtest" / "debug.log"
        return self.place(name).log

    def status(self) -> list[NodeStatus]:
        state = self.state
        return [self._bitcoind_status(state), *(self._lnd_status(name) for name in LNDS)]

    # Up and down

    def up(self, *, env_file: Path | None = None, owner: ProcessId | None = None) -> None:
        """Brings it up, or what of it died; returns once a payment has succeeded each way (now or before).

        With `owner` a network made now is taken down and removed when that process ends. Raises RegtestError,
        binaries.BinariesMissing.
        """
        self._get_programs()
        with locked(self.directory / LOCK_FILE):
            if load_state(self.directory) is None:
                save_state(self.directory, self._new_state(owner))
            try:
                self._bring_up()
            except (NodeError, NotReady, BitcoindError, BitcoindUnavailable) as error:
                raise RegtestError(f"The regtest network did not come up: {error}") from error
            if env_file is not None:
                write_env_file(env_file.expanduser().absolute(), self.access)

    def down(self, *, purge: bool = False) -> bool:
        """Ends its processes, and with `purge` removes its files. False: there was no network."""
        if load_state(self.directory) is None:
            return False
        with locked(self.directory / LOCK_FILE):
            self._forget_controls(LNDS)
            state = load_state(self.directory)
            if state is None:
                return False
            for names in (("miner", *LNDS), ("bitcoind",)):
                found = [state.processes.get(name) for name in names]
                processes.stop([process for process in found if process and process.pid != os.getpid()])
            save_state(self.directory, replace(state, processes={}))
            if purge:
                self._remove_files()
        return True

    # Single nodes

    def start(self, name: str) -> None:
        """Starts `bitcoind`, `gateway` or `payer` unless it lives; `wait_ready` tells when it is usable."""
        if self.is_alive(name):
            return
        self._forget_controls([name])
        argv = self._bitcoind_command() if name == "bitcoind" else self._lnd_command(name)
        self._spawn(name, argv)
        if name == "bitcoind":
            self._bitcoind_is_new = True
            self._start_miner()

    def stop(self, name: str) -> None:
        """SIGTERM, and SIGKILL if it does not end within some seconds."""
        self._forget_controls([name])
        processes.stop([self.state.processes.get(name)])

    def kill(self, name: str) -> None:
        """SIGKILL."""
        self._forget_controls([name])
        processes.kill([self.state.processes.get(name)])

    def pause(self, name: str) -> None:
        """SIGSTOP: its connections stay open and nothing answers."""
        self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self._signal(name, signal.SIGCONT)

    def wait_ready(self, name: str, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until the LND is synced, or bitcoind answers and living LNDs hear its blocks again, for which it mines.

        Raises RegtestError with the end of the log.
        """
        try:
            if name == "bitcoind":
                self._wait_bitcoind(timeout_s)
            else:
                self._wait_lnd(name, timeout_s)
        except NotReady as error:
            raise RegtestError(f"{name}: {error}\n{self.tail(name, 10)}".rstrip()) from error

    def wait_channels(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until all channels are active on both sides, connecting the nodes if need be. Raises RegtestError.

        To be called after a restart: a peer that vanishes just after it connected is not called again by LND.
        """
        try:
            for name in LNDS:
                self._until(partial(self._has_channels, name), f"{name}'s channels are not active", timeout_s)
        except (NotReady, NodeError) as error:
            raise RegtestError(str(error)) from error

    def mine(self, blocks: int = 1) -> int:
        """Mines, and answers the new height. Raises RegtestError."""
        try:
            self.bitcoind.mine(blocks)
            return self.bitcoind.height()
        except (BitcoindUnavailable, BitcoindError) as error:
            raise RegtestError(str(error)) from error

    def tail(self, name: str, lines: int) -> str:
        """The end of a node's log, and what it last wrote to its own output."""
        parts = (self.log_file(name), self._output_file(name))
        return "".join(_last_lines(part, lines) for part in parts)

    # Inside

    def _get_programs(self) -> None:
        self._binaries = ensure_binaries(self._progress)

    def _new_state(self, owner: ProcessId | None) -> NetworkState:
        return new_state(owner)

    def _bring_up(self) -> None:
        complete = self.state.ready and self.is_running()
        self._start_nodes()
        self._make_whole(complete)

    def _start_nodes(self) -> None:
        """Returns when bitcoind answers and both LND are synced."""
        state = self.state
        for name in NODES:
            processes.send_signal(state.processes.get(name), signal.SIGCONT)
        with self._progress.phase("Starting bitcoind"):
            self.start("bitcoind")
            self.wait_ready("bitcoind")
            self._prepare_chain()
        with self._progress.phase("Starting two LND nodes"):
            for name in LNDS:
                self.start(name)
            _both(self.wait_ready, LNDS)

    def _make_whole(self, complete: bool) -> None:
        """Channels, coins, macaroons, on nodes that run; with `complete` it is whole already."""
        if not self.state.ready:
            with self._progress.phase("Funding and opening channels") as phase:
                self._fund()
                phase.update("waiting for confirmations")
                self._open_channels()
            with self._progress.phase("Paying each way"):
                _both(self._prove_payment, LNDS)
                _both(lambda name: self.control(name).settled_balance_msat(STEP_TIMEOUT_S), LNDS)
            self._bake()
            self._update(ready=True)
        elif not complete:
            with self._progress.phase("Waiting for the channels"):
                self.wait_channels()
        self._start_miner()

    def _prepare_chain(self) -> None:
        """LND says synced only on a chain whose tip is recent."""
        rpc = self.bitcoind
        if not self.state.ready:
            rpc.ensure_wallet()
        elif time.time() - rpc.call("getblockchaininfo")["time"] > FRESH_TIP_S:
            rpc.mine(1)

    def _fund(self) -> None:
        poor = [name for name in LNDS if self.control(name).wallet_balance_sats() < WALLET_SATS // 4]
        if not poor or self._channels_known() >= self._channels:
            return
        addresses = [self.control(name).new_address() for name in poor]
        self.bitcoind.send(dict.fromkeys(addresses, WALLET_SATS))
        self.bitcoind.mine(1)
        for name in poor:
            rich = partial(self._has_coins, name)
            self._until(rich, f"{name} does not see its coins")

    def _has_coins(self, name: str) -> bool:
        return self._is_synced(name) and self.control(name).wallet_balance_sats() >= WALLET_SATS // 4

    def _has_channels(self, name: str) -> bool:
        if self.control(name).facts().active_channels >= self._channels:
            return True
        self._connect()
        return False

    def _connect(self) -> None:
        gateway, pubkey = self.control("gateway"), self.control("payer").facts().pubkey
        if not gateway.connected_to(pubkey):
            gateway.connect(pubkey, self.place("payer").peer_address)

    def _channels_known(self) -> int:
        facts = self.control("gateway").facts()
        return facts.active_channels + facts.pending_channels

    def _open_channels(self) -> None:
        gateway, payer = self.control("gateway"), self.control("payer")
        pubkey = payer.facts().pubkey
        self._connect()
        self._until(partial(gateway.connected_to, pubkey), "the nodes do not connect")
        missing = self._channels - self._channels_known()
        if missing > 0:
            half = CHANNEL_SATS // 2
            gateway.open_channels(pubkey, missing, capacity_sats=CHANNEL_SATS, push_sats=half)
        self.bitcoind.mine(CONFIRMATIONS)
        self.wait_channels()

    def _prove_payment(self, payer: str) -> None:
        """A new channel can refuse its first payments for a second or two."""
        receiver = next(name for name in LNDS if name != payer)
        request = self.control(receiver).invoice(PROOF_SATS, memo="regtest up")
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while not (payment := self.control(payer).pay(request, timeout_s=10)).succeeded:
            if time.monotonic() > deadline:
                raise NotReady(f"{payer} cannot pay {receiver}: {payment.failure}")
            time.sleep(POLL_EVERY_S)

    def _bake(self) -> None:
        for file_name, uris in BAKED.items():
            write_private(self.directory / "gateway" / file_name, self.control("gateway").bake(uris))

    def _wait_bitcoind(self, timeout_s: float) -> None:
        def answers() -> bool:
            if not self.is_alive("bitcoind"):
                raise NotReady("it ended while starting")
            try:
                return self.bitcoind.height() >= 0
            except BitcoindUnavailable:
                return False

        self._until(answers, f"no answer after {timeout_s:.0f} s", timeout_s)
        if self._bitcoind_is_new:
            self._until(self._blocks_are_heard, "the LND nodes do not hear its blocks", timeout_s)
            self._bitcoind_is_new = False

    def _blocks_are_heard(self) -> bool:
        """LND hears bitcoind again some seconds after its restart, and of blocks mined before then only by the next."""
        living = [name for name in LNDS if self.is_alive(name)]
        if not living:
            return True
        self.bitcoind.mine(1)
        deadline = time.monotonic() + BLOCK_HEARD_S
        while not (heard := all(self._is_synced(name) for name in living)) and time.monotonic() < deadline:
            time.sleep(POLL_EVERY_S)
        return heard

    def _is_synced(self, name: str) -> bool:
        try:
            return self.control(name).facts(timeout_s=2.0).synced_to_chain
        except NodeError:
            return False

    def _wait_lnd(self, name: str, timeout_s: float) -> None:
        control = open_when_ready(self.place(name).access(), partial(self.is_alive, name), timeout_s)
        self._forget_controls([name])
        self._controls[name] = control

    def _until(self, condition: Callable[[], bool], complaint: str, timeout_s: float = STEP_TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise NotReady(complaint)
            time.sleep(POLL_EVERY_S)

    def _bitcoind_command(self) -> Sequence[str]:
        ports, home = self.state.ports, self.directory / "bitcoind"
        self._check_ports("bitcoind", (ports.bitcoind_rpc, ports.zmq_block, ports.zmq_tx))
        write_private(home / "bitcoin.conf", bitcoind.configuration(self.state))
        return [*self._programs().bitcoind, *bitcoind.arguments(home)]

    def _lnd_command(self, name: str) -> Sequence[str]:
        place = self.place(name)
        self._check_ports(name, (place.rpc_port, place.p2p_port))
        write_private(place.config_file, lnd_process.configuration(place, self.state))
        return [*self._programs().lnd, *lnd_process.arguments(place)]

    def _check_ports(self, name: str, ports: Sequence[int]) -> None:
        taken = [port for port in ports if not port_is_free(port)]
        if taken:
            raise RegtestError(
                f"{name} cannot start: port {taken[0]} of 127.0.0.1, which this network keeps, is in use by another "
                "program. End that one, or begin afresh with `boltworks regtest down --purge`."
            )

    def _programs(self) -> Binaries:
        if self._binaries is None:
            self._binaries = ensure_binaries(self._progress)
        return self._binaries

    def _start_miner(self) -> None:
        if not self.is_alive("miner"):
            self._spawn("miner", [sys.executable, "-m", "lightning.regtest.miner", str(self.directory)])

    def _spawn(self, name: str, argv: Sequence[str]) -> None:
        process = processes.spawn(argv, self._output_file(name), self._environment())
        self._update(processes={**self.state.processes, name: process})

    def _environment(self) -> dict[str, str]:
        """Of the processes that are started here."""
        return {
            "HOME": str(self.directory),
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "LC_ALL": "C",
        }

    def _update(self, **changes: object) -> None:
        save_state(self.directory, replace(self.state, **changes))  # type: ignore[arg-type]

    def _output_file(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.out"

    def _signal(self, name: str, number: signal.Signals) -> None:
        if not processes.send_signal(self.state.processes.get(name), number):
            raise RegtestError(f"{name} is not running.")

    def _forget_controls(self, names: Sequence[str]) -> None:
        for name in names:
            if control := self._controls.pop(name, None):
                control.close()

    def _remove_files(self) -> None:
        """What this module made, and the directory if nothing else is in it."""
        for name in (*NODES, "logs"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        for name in (STATE_FILE, LOCK_FILE):
            (self.directory / name).unlink(missing_ok=True)
        if not any(self.directory.iterdir()):
            self.directory.rmdir()

    def _bitcoind_status(self, state: NetworkState) -> NodeStatus:
        address = f"127.0.0.1:{state.ports.bitcoind_rpc}"
        if (pid := self._pid("bitcoind")) is None:
            return NodeStatus("bitcoind", None, address, "not running")
        try:
            return NodeStatus("bitcoind", pid, address, height=self.bitcoind.height())
        except (BitcoindUnavailable, BitcoindError) as error:
            return NodeStatus("bitcoind", pid, address, str(error))

    def _pid(self, name: str) -> int | None:
        process = self.state.processes.get(name)
        return process.pid if process is not None and processes.is_alive(process) else None

    def _lnd_status(self, name: str) -> NodeStatus:
        address = self.place(name).host
        if (pid := self._pid(name)) is None:
            return NodeStatus(name, None, address, "not running")
        try:
            facts = self.control(name).facts(timeout_s=3.0)
            balance_sats = self.control(name).balance_msat() // 1000
        except NodeError as error:
            return NodeStatus(name, pid, address, error.detail)
        return NodeStatus(
            name=name,
            pid=pid,
            address=address,
            height=facts.block_height,
            synced=facts.synced_to_chain,
            channels=facts.active_channels,
            balance_sats=balance_sats,
            pubkey=facts.pubkey,
        )


def open_network(directory: Path, progress: Progress | None = None, *, docker: bool = False) -> Network:
    """The network in `directory`, of whichever kind it is; `docker` says which kind a new one will be."""
    state = load_state(directory.expanduser().resolve())
    if state.docker is not None if state is not None else docker:
        from lightning.regtest.docker.stack import DockerNetwork

        return DockerNetwork(directory, progress)
    if docker:
        raise RegtestError(
            f"The network in {directory} runs as native processes; `boltworks regtest down --purge` removes it."
        )
    return Network(directory, progress)


def _both(action: Callable[[str], T], names: Sequence[str]) -> list[T]:
    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(action, names))


def _last_lines(path: Path, lines: int) -> str:
    try:
        text = path.read_text(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return ""
    return "".join(f"{line}\n" for line in text)
