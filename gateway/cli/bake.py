"""`macaroon bake`: least privilege, from an admin macaroon that is read once."""

from __future__ import annotations

import os
from pathlib import Path

import click
import grpc

from gateway.database import StartError
from gateway.settings import PREFIX, Settings
from lightning.macaroons import bake
from lightning.permissions import GATEWAY_PERMISSIONS, WATCHER_PERMISSIONS

ROLES = {"gateway": GATEWAY_PERMISSIONS, "watcher": WATCHER_PERMISSIONS}


async def bake_macaroon(settings: Settings, *, admin_macaroon: str, role: str, out: str) -> None:
    if settings.lnd_host is None or settings.lnd_tls_cert is None:
        raise StartError(f"name your LND by --host and --tls-cert, or {PREFIX}LND_HOST and {PREFIX}LND_TLS_CERT")
    try:
        baked = await bake(
            host=settings.lnd_host,
            tls_cert=settings.lnd_tls_cert.read_bytes(),
            macaroon=Path(admin_macaroon).read_bytes(),
            uris=ROLES[role],
        )
    except grpc.RpcError as error:
        said = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
        raise StartError(f"LND did not bake: {said}") from None
    write_private(Path(out), baked)
    click.echo(f"{out}: a macaroon for the {role}; it may call {len(ROLES[role])} methods:")
    for uri in ROLES[role]:
        click.echo(f"  {uri}")
    if role == "gateway":
        click.echo(f"Set {PREFIX}LND_MACAROON to it.")


def write_private(path: Path, content: bytes) -> None:
    """Mode 0600 from its first byte on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
