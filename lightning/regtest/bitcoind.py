"""bitcoind: its configuration, and a JSON-RPC client of a screen. Standard library only."""

from __future__ import annotations

import base64
import http.client
import json
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from lightning.regtest.state import NetworkState

RPC_USER: Final = "boltworks"
WALLET: Final = "miner"
NOBODYS_OUTPUT: Final = "raw(51)#8lvh9jxk"
"""A descriptor that anyone can spend: coins for no wallet."""
SATS_PER_BITCOIN: Final = 100_000_000
MISSING_WALLET: Final = -18
WARMING_UP: Final = -28


class BitcoindUnavailable(Exception):
    """No answer: not started, starting, stopped or stuck."""


class BitcoindError(Exception):
    """bitcoind answered with an error; `code` is its number for it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def configuration(state: NetworkState) -> str:
    """`bitcoin.conf`; in a file, because a command line is readable by every user of the machine."""
    ports = state.ports
    return f"""\
regtest=1
server=1
daemon=0
txindex=1
fallbackfee=0.0002
printtoconsole=0
dbcache=16
[regtest]
listen=0
dnsseed=0
rpcbind=127.0.0.1
rpcallowip=127.0.0.1
rpcport={ports.bitcoind_rpc}
rpcuser={RPC_USER}
rpcpassword={state.rpc_password}
rpcworkqueue=128
zmqpubrawblock=tcp://127.0.0.1:{ports.zmq_block}
zmqpubrawtx=tcp://127.0.0.1:{ports.zmq_tx}
"""


def arguments(directory: Path) -> list[str]:
    return [f"-datadir={directory}", f"-conf={directory / 'bitcoin.conf'}"]


def rpc_url(state: NetworkState) -> str:
    """With its credentials: a secret."""
    return f"http://{RPC_USER}:{state.rpc_password}@127.0.0.1:{state.ports.bitcoind_rpc}"


@dataclass(frozen=True, slots=True)
class BitcoindRpc:
    port: int
    password: str = field(repr=False)

    def call(self, method: str, *params: Any, wallet: str | None = None, timeout_s: float = 30.0) -> Any:
        """The result; numbers with a point are Decimal. Raises BitcoindUnavailable, BitcoindError."""
        body = json.dumps({"method": method, "params": params, "id": 0})
        token = base64.b64encode(f"{RPC_USER}:{self.password}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            path = f"/wallet/{wallet}" if wallet else "/"
            connection.request("POST", path, body, {"Authorization": f"Basic {token}"})
            raw = connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            raise BitcoindUnavailable(f"bitcoind does not answer: {error}") from error
        finally:
            connection.close()
        return _result(raw)

    def mine(self, blocks: int, timeout_s: float = 30.0) -> None:
        """Blocks that pay nobody's wallet, on disk when this returns.

        bitcoind writes its chain out once an hour; killed before, it would forget blocks that LND has seen, and LND
        never recovers from that. `gettxoutsetinfo` has the side effect of writing it out.
        """
        self.call("generatetodescriptor", blocks, NOBODYS_OUTPUT, timeout_s=timeout_s)
        self.call("gettxoutsetinfo", "none", timeout_s=timeout_s)

    def height(self) -> int:
        return int(self.call("getblockcount"))

    def ensure_wallet(self) -> None:
        """A wallet with mature coins."""
        try:
            self.call("getwalletinfo", wallet=WALLET)
        except BitcoindError as error:
            if error.code != MISSING_WALLET:
                raise
            self._open_wallet()
        if not self.call("getbalance", wallet=WALLET):
            address = self.call("getnewaddress", wallet=WALLET)
            self.call("generatetoaddress", 1, address)
            self.mine(100)

    def _open_wallet(self) -> None:
        try:
            self.call("loadwallet", WALLET, True)
        except BitcoindError as error:
            if error.code != MISSING_WALLET:
                raise
            self.call("createwallet", WALLET, False, False, "", False, True, True)

    def send(self, amounts_sats: dict[str, int]) -> None:
        """Pays each address from the wallet in one transaction, unconfirmed."""
        amounts = {address: str(Decimal(sats) / SATS_PER_BITCOIN) for address, sats in amounts_sats.items()}
        self.call("sendmany", "", amounts, wallet=WALLET)


def _result(raw: bytes) -> Any:
    try:
        answer = json.loads(raw, parse_float=Decimal)
    except ValueError as error:
        raise BitcoindUnavailable("bitcoind's answer is not JSON (wrong credentials, or not bitcoind)") from error
    if refusal := answer.get("error"):
        if refusal["code"] == WARMING_UP:
            raise BitcoindUnavailable(refusal["message"])
        raise BitcoindError(refusal["code"], refusal["message"])
    return answer["result"]
