"""The commands as a newcomer types them: on real nodes, with the embedded database, with mistakes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from lightning.macaroons import permissions_of
from lightning.permissions import GATEWAY_PERMISSIONS, WATCHER_PERMISSIONS
from lightning.regtest.network import Network
from lightning.regtest.ports import choose_ports


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


async def boltworks(folder: Path, *args: str, env: Mapping[str, str] = {}, timeout_s: float = 300) -> Result:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BOLTWORKS_", "REGTEST_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        *args,
        cwd=folder,
        env={**inherited, "BOLTWORKS_DATA_DIR": str(folder / "data"), **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return Result(process.returncode or 0, out.decode(), err.decode())


def node_settings(regtest: Network) -> dict[str, str]:
    return {**regtest.access.settings(), "BOLTWORKS_LISTEN": f"127.0.0.1:{choose_ports(1)[0]}"}


async def test_the_demo_narrates_and_every_amount_is_right(regtest: Network, tmp_path: Path) -> None:
    env = {**node_settings(regtest), "BOLTWORKS_REGTEST_DIR": str(regtest.directory)}
    result = await boltworks(tmp_path, "demo", "--once", "--json", env=env)
    assert result.code == 0, result.err
    amounts = json.loads(result.out.strip().splitlines()[-1])
    assert amounts["paidSats"] == amounts["chargeSats"] + amounts["refundedSats"] > amounts["chargeSats"] > 0
    assert "The books are right" in result.out
    assert regtest.is_running(), "a network that ran before the demo runs on"


async def test_audit_and_self_test_on_the_embedded_database(tmp_path: Path) -> None:
    result = await boltworks(tmp_path, "audit", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["clean"]
    assert len(report["invariants"]) >= 12
    result = await boltworks(tmp_path, "audit", "--self-test")
    assert result.code == 0, result.out
    assert "0 unnoticed" in result.out


async def test_audit_finds_a_broken_book(dsn: str, tmp_path: Path) -> None:
    import asyncpg

    conn = await asyncpg.connect(dsn)
    await conn.execute("update accounts set balance_msat = 7 where code = 'pool'")
    result = await boltworks(tmp_path, "audit", env={"BOLTWORKS_DATABASE_URL": dsn})
    await conn.execute("update accounts set balance_msat = 0 where code = 'pool'")
    await conn.close()
    assert result.code == 1
    assert "BROKEN balance_is_the_sum_of_transfers" in result.out


async def test_migrate_says_what_it_did(empty_dsn: str, tmp_path: Path) -> None:
    env = {"BOLTWORKS_DATABASE_URL": empty_dsn}
    assert "applied 0001_book" in (await boltworks(tmp_path, "migrate", env=env)).out
    assert "up to date" in (await boltworks(tmp_path, "migrate", env=env)).out


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ({"BOLTWORKS_LISTEN": "nowhere"}, "BOLTWORKS_LISTEN: must be host:port"),
        ({}, "BOLTWORKS_LND_HOST is not set"),
        ({"BOLTWORKS_CONFIG": "/there/is/no/such.toml"}, "BOLTWORKS_CONFIG"),
        (
            {
                "BOLTWORKS_LND_HOST": "127.0.0.1:1",
                "BOLTWORKS_LND_TLS_CERT": "/no/cert",
                "BOLTWORKS_LND_MACAROON": "/no",
            },
            "BOLTWORKS_LND_TLS_CERT: there is no file /no/cert",
        ),
    ],
)
async def test_a_mistake_is_one_line(tmp_path: Path, env: dict[str, str], line: str) -> None:
    result = await boltworks(tmp_path, "serve", env={"BOLTWORKS_LISTEN": f"127.0.0.1:{choose_ports(1)[0]}", **env})
    assert result.code != 0
    assert line in result.err
    assert len(result.err.strip().splitlines()) == 1, result.err


async def test_a_mistake_in_the_catalogue_names_file_key_and_reason(tmp_path: Path, regtest: Network) -> None:
    (tmp_path / "boltworks.toml").write_text('[[work]]\nname = "a"\nworker = "http"\nurl = "http://127.0.0.1/"\n')
    result = await boltworks(tmp_path, "serve", env=node_settings(regtest))
    assert result.code != 0
    assert "boltworks.toml" in result.err
    assert "work[0].price" in result.err
    assert len(result.err.strip().splitlines()) == 1


async def test_a_port_in_use_is_one_line_that_names_it(tmp_path: Path, regtest: Network) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        env = {**node_settings(regtest), "BOLTWORKS_LISTEN": f"127.0.0.1:{port}"}
        result = await boltworks(tmp_path, "serve", env=env)
    assert result.code == 1
    assert f"port {port} on 127.0.0.1 is in use" in result.err
    assert len(result.err.strip().splitlines()) == 1


async def test_doctor_is_content_with_a_regtest_node(tmp_path: Path, regtest: Network) -> None:
    result = await boltworks(tmp_path, "doctor", "--json", env=node_settings(regtest))
    findings = {finding["subject"]: finding for finding in json.loads(result.out)["findings"]}
    assert result.code == 0, result.out
    assert findings["node"]["level"] == findings["macaroon"]["level"] == findings["database"]["level"] == "ok"


async def test_doctor_says_what_is_missing(tmp_path: Path) -> None:
    result = await boltworks(tmp_path, "doctor")
    assert result.code == 1
    assert "BOLTWORKS_LND_HOST is not set" in result.out


@pytest.mark.parametrize(("role", "permissions"), [("gateway", GATEWAY_PERMISSIONS), ("watcher", WATCHER_PERMISSIONS)])
async def test_a_baked_macaroon_can_do_no_more_than_it_must(
    tmp_path: Path, regtest: Network, role: str, permissions: tuple[str, ...]
) -> None:
    access, out = regtest.access.gateway, tmp_path / "baked.macaroon"
    args = ["--host", access.host, "--tls-cert", str(access.tls_cert), "--admin-macaroon", str(access.macaroon)]
    result = await boltworks(tmp_path, "macaroon", "bake", *args, "--for", role, "--out", str(out))
    assert result.code == 0, result.err
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    actions = {action for permission in permissions_of(out.read_bytes()) for action in permission.actions}
    assert actions == set(permissions)


async def test_an_admin_macaroon_is_warned_of(tmp_path: Path, regtest: Network) -> None:
    env = {**node_settings(regtest), "BOLTWORKS_LND_MACAROON": str(regtest.access.gateway.macaroon)}
    result = await boltworks(tmp_path, "doctor", env=env)
    assert "can do everything on your node" in result.out


async def test_reconcile_says_unknown_when_the_node_does_not_answer(tmp_path: Path, regtest: Network, dsn: str) -> None:
    env = {**node_settings(regtest), "BOLTWORKS_DATABASE_URL": dsn}
    result = await boltworks(tmp_path, "reconcile", "--json", env=env)
    assert result.code == 0, result.out + result.err
    assert json.loads(result.out)["clean"] is True
    env["BOLTWORKS_LND_HOST"] = f"127.0.0.1:{choose_ports(1)[0]}"
    result = await boltworks(tmp_path, "reconcile", "--json", env=env)
    assert result.code == 3
    assert json.loads(result.out)["nodeMsat"] is None
    result = await boltworks(tmp_path, "reconcile", env=env)
    assert result.code == 3
    assert "unknown: the node did not answer" in result.out


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("--accept", "x"), "go together"),
        (("--accept", "x", "--as", "paid"), "--preimage HEX"),
        (("--accept", "x", "--as", "paid", "--preimage", "zz", "--fee-msat", "0"), "hexadecimal"),
        (("--accept", "x", "--as", "failed", "--yes"), "there is no refund attempt x"),
    ],
)
async def test_a_mistake_in_accepting_is_one_line(tmp_path: Path, dsn: str, args: tuple[str, ...], line: str) -> None:
    result = await boltworks(tmp_path, "reconcile", *args, env={"BOLTWORKS_DATABASE_URL": dsn})
    assert result.code != 0
    assert line in result.err


@pytest.mark.parametrize(
    "command", ["", "serve", "worker", "watch", "migrate", "audit", "reconcile", "doctor", "demo", "regtest", "pool"]
)
async def test_every_command_has_help(tmp_path: Path, command: str) -> None:
    result = await boltworks(tmp_path, *([command] if command else []), "--help")
    assert result.code == 0
    assert "Usage:" in result.out


async def test_version(tmp_path: Path) -> None:
    result = await boltworks(tmp_path, "--version")
    assert result.out.startswith("boltworks, version 0.")
