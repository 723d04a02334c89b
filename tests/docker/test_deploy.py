"""`deploy/compose.yml` as an operator uses it: beside an LND, it sells; its backup, restored, holds the same books."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from lightning.regtest.control import AsyncControl
from lightning.regtest.docker.client import DockerError, docker
from lightning.regtest.docker.compose import Compose, ensure_compose
from lightning.regtest.docker.images import CHECKOUT
from lightning.regtest.docker.stack import DockerNetwork
from lightning.regtest.ports import choose_ports
from lightning.regtest.progress import Progress
from tests.gateways import Buyer

DEPLOY = CHECKOUT / "deploy"
PDF = "markdown-pdf"
TEXT = {"markdown": "# Hello\n\n" + "A paragraph of some length. " * 60, "title": "Hello"}
SERVICES = ("postgres", "gateway", "worker", "backup")
BESIDE_LND = """\
services:
  gateway: &beside
    networks: [database, outside, lnd]
  worker: *beside
networks:
  lnd:
    external: true
    name: {network}
"""


@dataclass(frozen=True)
class Shop:
    compose: Compose
    folder: Path
    url: str


@pytest.fixture(scope="module")
def shop_beside(stack: DockerNetwork, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("deploy")
    for name in ("compose.yml", "backup.sh"):
        shutil.copy(DEPLOY / name, folder)
    subprocess.run([DEPLOY / "make-secrets", folder / "secrets"], check=True)
    access = stack.access.boltworks
    for name, source in (("tls.cert", access.tls_cert), ("lnd.macaroon", access.macaroon)):
        (folder / "secrets" / name).write_bytes(source.read_bytes())
    (folder / "boltworks.toml").write_text(
        f'[[work]]\nname = "{PDF}"\ntitle = "PDF"\nworker = "pdf"\nprice = {{ per_page_sats = 10 }}\n'
    )
    (folder / "backups").mkdir()
    (folder / "compose.override.yml").write_text(BESIDE_LND.format(network=f"{stack.docker.project}_node"))
    port = choose_ports(1)[0]
    env = {
        **os.environ,
        **stack.images.environment(),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "LND_HOST": "lnd-gateway:10009",
        "GATEWAY_PORT": str(port),
        "BACKUP_EVERY_S": "2",
        "BACKUP_KEEP": "3",
    }
    command = (*ensure_compose(Progress(quiet=True)), "--file", str(folder / "compose.yml"))
    project = f"boltworks-deploy-{secrets.token_hex(4)}"
    compose = Compose(command, folder / "compose.override.yml", project, env)
    try:
        compose.run("up", "--detach", "--wait", "--wait-timeout", "180")
        yield Shop(compose, folder, f"http://127.0.0.1:{port}")
    finally:
        compose.run("down", "--volumes", "--timeout", "15")


def dumps(shop: Shop) -> list[str]:
    return sorted(path.name for path in (shop.folder / "backups").glob("boltworks-*.dump"))


async def dump_made_after(shop: Shop, seen: list[str]) -> str:
    """The name of the second dump from now on: it began after this call."""
    async with asyncio.timeout(120):
        while len(new := [name for name in dumps(shop) if name not in seen]) < 2:
            await asyncio.sleep(0.2)
    return new[-1]


async def test_it_sells_and_its_backup_holds_the_same_books(
    shop_beside: Shop, http: aiohttp.ClientSession, payer: AsyncControl
) -> None:
    shop = Buyer(http, shop_beside.url)
    before = await payer.settled_balance_msat()
    job = await shop.buy(PDF, TEXT)
    assert (await payer.pay(job["invoice"]["paymentRequest"])).succeeded
    done = await shop.until(job, state="complete", refundState="pending")
    assert (await shop.refund(job, await payer.invoice(done["refundAmountSats"])))[0] == 202
    await shop.until(job, refundState="paid")
    assert before - await payer.settled_balance_msat() == done["userChargeSats"] * 1000

    name = await dump_made_after(shop_beside, dumps(shop_beside))
    assert len(dumps(shop_beside)) <= 4
    project = shop_beside.compose.project
    restore = (
        "export PGPASSWORD=$(cat $PASSWORD_FILE); psql -qc 'create database restored' && "  # noqa: S608
        f"pg_restore --exit-on-error --dbname=restored /backups/{name} && "
        "psql -Atd restored -c \"select count(*) from jobs where state = 'complete'\""
    )
    assert docker("exec", f"{project}-backup-1", "sh", "-c", restore) == "1"
    url = (shop_beside.folder / "secrets/database_url").read_text().rpartition("/")[0] + "/restored"
    audit = docker("exec", "--env", f"BOLTWORKS_DATABASE_URL={url}", f"{project}-gateway-1", "boltworks", "audit")
    assert audit.endswith("the books are right")


def test_all_are_healthy_and_one_port_is_open_on_loopback(shop_beside: Shop) -> None:
    for service in SERVICES:
        name = f"{shop_beside.compose.project}-{service}-1"
        shown = docker("inspect", "--format", "{{.State.Health.Status}} {{.HostConfig.ReadonlyRootfs}}", name)
        assert shown == "healthy true"
        assert docker("port", name).split(":")[0] in ("", "8420/tcp -> 127.0.0.1")


def test_what_is_not_set_is_named() -> None:
    bare = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    compose = Compose(ensure_compose(Progress(quiet=True)), DEPLOY / "compose.yml", "none", bare)
    with pytest.raises(DockerError, match=r"GATEWAY_IMAGE|PUBLIC_URL|LND_HOST"):
        compose.run("config", "--quiet")
    env = {**bare, "GATEWAY_IMAGE": "x", "PUBLIC_URL": "http://x", "LND_HOST": "x:1"}
    complete = Compose(ensure_compose(Progress(quiet=True)), DEPLOY / "compose.yml", "none", env)
    assert complete.run("config", "--quiet") == ""
