"""The configuration of one LND and where it keeps what others need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lightning.regtest.bitcoind import RPC_USER
from lightning.regtest.envfile import NodeAccess
from lightning.regtest.state import NetworkState


@dataclass(frozen=True, slots=True)
class LndPlace:
    """One LND's name, ports and files."""

    name: str
    directory: Path
    rpc_port: int
    p2p_port: int

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.rpc_port}"

    @property
    def peer_address(self) -> str:
        return f"127.0.0.1:{self.p2p_port}"

    @property
    def config_file(self) -> Path:
        return self.directory / "lnd.conf"

    @property
    def tls_cert(self) -> Path:
        return self.directory / "tls.cert"

    @property
    def admin_macaroon(self) -> Path:
        return self.directory / "data/chain/bitcoin/regtest/admin.macaroon"

    @property
    def log(self) -> Path:
        return self.directory / "logs/bitcoin/regtest/lnd.log"

    def access(self, macaroon: Path | None = None) -> NodeAccess:
        return NodeAccess(self.host, self.tls_cert, macaroon or self.admin_macaroon)


def configuration(place: LndPlace, state: NetworkState) -> str:
    """`lnd.conf`; in a file, because a command line is readable by every user of the machine.

    Without `healthcheck.chainbackend.attempts=0` LND ends by itself, with exit code 0, when bitcoind is away for
    some minutes. `maxpendingchannels`: several channels to one peer are opened in one transaction.
    """
    ports = state.ports
    return f"""\
[Application Options]
lnddir={place.directory}
alias={place.name}
noseedbackup=true
nobootstrap=true
minbackoff=500ms
maxbackoff=2s
rpclisten={place.host}
listen={place.peer_address}
norest=true
tlsdisableautofill=true
debuglevel=info
maxpendingchannels=20
trickledelay=50
healthcheck.chainbackend.attempts=0
logging.console.disable=true
protocol.wumbo-channels=true

[bitcoin]
bitcoin.regtest=true
bitcoin.node=bitcoind

[bitcoind]
bitcoind.rpchost=127.0.0.1:{ports.bitcoind_rpc}
bitcoind.rpcuser={RPC_USER}
bitcoind.rpcpass={state.rpc_password}
bitcoind.zmqreaddeadline=1s
bitcoind.zmqpubrawblock=tcp://127.0.0.1:{ports.zmq_block}
bitcoind.zmqpubrawtx=tcp://127.0.0.1:{ports.zmq_tx}
"""


def arguments(place: LndPlace) -> list[str]:
    return [f"--lnddir={place.directory}", f"--configfile={place.config_file}"]
