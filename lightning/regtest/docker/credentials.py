"""Inside the stack, at each start: the macaroons of gateway and watcher, baked by LND, beside its certificate.

`python -m lightning.regtest.docker.credentials HOST:PORT LNDDIR DIR`, with the volumes of `secrets.py` below DIR.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from lightning.permissions import GATEWAY_PERMISSIONS, WATCHER_PERMISSIONS
from lightning.regtest.control import NodeControl
from lightning.regtest.docker.secrets import READABLE
from lightning.regtest.envfile import NodeAccess

ADMIN_MACAROON: Final = "data/chain/bitcoin/regtest/admin.macaroon"


def main(host: str, lnd: Path, folder: Path) -> None:
    certificate = lnd / "tls.cert"
    control = NodeControl(NodeAccess(host, certificate, lnd / ADMIN_MACAROON))
    try:
        for name, uris in (("gateway", GATEWAY_PERMISSIONS), ("watcher", WATCHER_PERMISSIONS)):
            put(folder / name / "lnd.macaroon", control.bake(uris))
            put(folder / name / "tls.cert", certificate.read_bytes())
    finally:
        control.close()


def put(path: Path, content: bytes) -> None:
    """In one step for readers."""
    beside = path.with_name(f".{path.name}")
    beside.unlink(missing_ok=True)
    beside.write_bytes(content)
    beside.chmod(READABLE)
    beside.replace(path)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
