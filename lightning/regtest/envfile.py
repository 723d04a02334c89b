"""The file that `regtest up --env` writes: what `boltworks serve` and other programs need, as KEY=value lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lightning.regtest.state import write_private


@dataclass(frozen=True, slots=True)
class NodeAccess:
    """Where a node answers gRPC, and the files that let one in."""

    host: str
    """`host:port`."""
    tls_cert: Path
    macaroon: Path


@dataclass(frozen=True, slots=True)
class NetworkAccess:
    directory: Path
    boltworks: NodeAccess
    """The gateway's node with the baked macaroon."""
    gateway: NodeAccess
    """The same node with its admin macaroon."""
    payer: NodeAccess
    bitcoind_rpc: str = field(repr=False)

    def settings(self) -> dict[str, str]:
        return {
            **_of_node("BOLTWORKS", self.boltworks),
            **_of_node("REGTEST_GATEWAY", self.gateway),
            **_of_node("REGTEST_PAYER", self.payer),
            "REGTEST_BITCOIND_RPC": self.bitcoind_rpc,
            "BOLTWORKS_DEMO_WALLET": "true",
            "BOLTWORKS_REGTEST_DIR": str(self.directory.absolute()),
        }


def _of_node(prefix: str, node: NodeAccess) -> dict[str, str]:
    return {
        f"{prefix}_LND_HOST": node.host,
        f"{prefix}_LND_TLS_CERT": str(node.tls_cert.absolute()),
        f"{prefix}_LND_MACAROON": str(node.macaroon.absolute()),
    }


def render(settings: Mapping[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def write_env_file(path: Path, access: NetworkAccess) -> None:
    """Mode 0600: it carries bitcoind's password."""
    write_private(path, render(access.settings()))
