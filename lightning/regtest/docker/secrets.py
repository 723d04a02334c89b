"""Inside the stack, once: passwords and keys, made afresh in volumes, so that none stands in a file of ours.

`python -m lightning.regtest.docker.secrets DIR`, with a volume mounted on each of `chain`, `database`, `gateway` and
`watcher` below DIR. What is there already stays. Each container mounts only what it needs; the files can be read by
whoever runs in it, since images differ in their users.
"""

from __future__ import annotations

import base64
import secrets
import sys
from pathlib import Path
from typing import Final

from lightning.regtest.bitcoind import RPC_USER

DATABASE_USER: Final = "boltworks"
READABLE: Final = 0o444


def main(folder: Path) -> None:
    rpc_password = keep(folder / "chain/rpc_password", secrets.token_urlsafe(32))
    keep(folder / "chain/bitcoin.conf", f"rpcuser={RPC_USER}\nrpcpassword={rpc_password}\n")
    keep(folder / "chain/lnd.conf", f"[bitcoind]\nbitcoind.rpcuser={RPC_USER}\nbitcoind.rpcpass={rpc_password}\n")
    password = keep(folder / "database/password", secrets.token_urlsafe(32))
    database_url = f"postgresql://{DATABASE_USER}:{password}@postgres:5432/{DATABASE_USER}"
    webhook_secret = keep(folder / "gateway/webhook_secret", signing_key())
    keep(folder / "gateway/worker_secret", signing_key())
    keep(folder / "gateway/token_secret", secrets.token_urlsafe(32))
    keep(folder / "gateway/operator_key", secrets.token_urlsafe(32))
    keep(folder / "gateway/database_url", database_url)
    keep(folder / "watcher/webhook_secret", webhook_secret)
    keep(folder / "watcher/database_url", database_url)


def signing_key() -> str:
    """As the Standard Webhooks specification writes one."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def keep(path: Path, fresh: str) -> str:
    """The file's text; `fresh`, written in one step, if it is new."""
    if not path.exists():
        beside = path.with_name(f".{path.name}")
        beside.write_text(fresh)
        beside.chmod(READABLE)
        beside.replace(path)
    return path.read_text()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
