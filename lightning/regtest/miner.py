"""Keeps a running network's tip recent: LND calls itself unsynced on a tip older than two hours.

`python -m lightning.regtest.miner DIR`, started by the network. It ends when bitcoind does (one in a container: when
the network is taken down). A network with an owner
(a test session) it takes down when the owner ends, also when that could not do so itself.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

from lightning.regtest.bitcoind import BitcoindError, BitcoindRpc, BitcoindUnavailable
from lightning.regtest.processes import is_alive
from lightning.regtest.state import NetworkState, load_state

LOOK_EVERY_S: Final = 1.0
TIP_EVERY_S: Final = 30.0
BLOCK_EVERY_S: Final = 600


def main(directory: Path) -> None:
    next_tip_s = time.monotonic() + TIP_EVERY_S
    while (state := load_state(directory)) is not None:
        if state.owner is not None and not is_alive(state.owner):
            take_down(directory)
            return
        if state.owner is None and state.docker is None and not is_alive(state.processes.get("bitcoind")):
            return
        if time.monotonic() >= next_tip_s:
            keep_tip_fresh(state)
            next_tip_s = time.monotonic() + TIP_EVERY_S
        time.sleep(LOOK_EVERY_S)


def keep_tip_fresh(state: NetworkState) -> None:
    """Mines one block if the last is ten minutes old."""
    rpc = BitcoindRpc(state.ports.bitcoind_rpc, state.rpc_password)
    try:
        if time.time() - rpc.call("getblockchaininfo")["time"] >= BLOCK_EVERY_S:
            rpc.mine(1)
    except (BitcoindUnavailable, BitcoindError) as error:
        sys.stderr.write(f"no block: {error}\n")


def take_down(directory: Path) -> None:
    from lightning.regtest.network import open_network

    open_network(directory).down(purge=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
