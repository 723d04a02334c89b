"""The regtest network itself, on real bitcoind and LND: up, payments, faults, and nothing left behind."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lightning.macaroons import bake, is_admin_macaroon, permissions_of
from lightning.permissions import GATEWAY_PERMISSIONS, WATCHER_PERMISSIONS
from lightning.regtest.cli import regtest as regtest_command
from lightning.regtest.control import AsyncControl, NodeControl, NodeError, PaymentStatus
from lightning.regtest.envfile import NodeAccess
from lightning.regtest.network import CHANNELS, NODES, Network
from lightning.regtest.processes import born, is_alive, myself, wait_gone
from lightning.regtest.state import ProcessId

LISTEN = "0A"


async def test_a_payment_each_way_moves_exactly_its_amount(payer: AsyncControl, gateway_node: AsyncControl) -> None:
    before_msat = await payer.settled_balance_msat()
    preimage = os.urandom(32)
    request = await gateway_node.invoice(1_234, memo="there", preimage=preimage)
    there = await payer.pay(request)
    assert (there.status, there.amount_msat, there.fee_msat) == (PaymentStatus.SUCCEEDED, 1_234_000, 0)
    assert there.preimage == preimage
    seen = await gateway_node.lookup(there.payment_hash)
    assert seen is not None
    assert (seen.state, seen.amount_paid_msat, seen.memo) == ("settled", 1_234_000, "there")

    back = await gateway_node.pay(await payer.invoice(1_000))
    assert back.succeeded
    assert await payer.settled_balance_msat() == before_msat - 1_234_000 + 1_000_000
    assert there.payment_hash in [payment.payment_hash for payment in await payer.list_payments()]
    assert there.payment_hash in [invoice.payment_hash for invoice in await gateway_node.list_invoices()]


async def test_channels_are_balanced_both_ways(regtest: Network) -> None:
    for name in ("gateway", "payer"):
        control = regtest.control(name)
        assert control.facts().active_channels == CHANNELS
        assert control.balance_msat() > 15_000_000_000
        assert control.remote_balance_msat() > 15_000_000_000


async def test_payments_can_run_side_by_side(payer: AsyncControl, gateway_node: AsyncControl) -> None:
    requests = await asyncio.gather(*(gateway_node.invoice(10) for _ in range(20)))
    payments = await asyncio.gather(*(payer.pay(request) for request in requests))
    assert [payment.failure for payment in payments] == [""] * 20
    assert all(payment.succeeded for payment in payments)


async def test_a_payment_that_cannot_arrive_says_why(payer: AsyncControl, gateway_node: AsyncControl) -> None:
    request = await gateway_node.invoice(10)
    payment_hash = bytes.fromhex((await gateway_node.decode(request)).payment_hash)
    await gateway_node.cancel(payment_hash)
    payment = await payer.pay(request)
    assert payment.status is PaymentStatus.FAILED
    assert "receiver refused" in payment.failure
    assert payment.preimage == b""


async def test_a_hold_invoice_keeps_its_payment_in_flight(payer: AsyncControl, gateway_node: AsyncControl) -> None:
    request, preimage = await payer.hold_invoice(50)
    payment_hash = hashlib.sha256(preimage).digest()
    paying = asyncio.create_task(gateway_node.pay(request))
    assert (await payer.wait_accepted(payment_hash)).state == "accepted"
    pending = await gateway_node.payment(payment_hash)
    assert pending is not None
    assert pending.status is PaymentStatus.IN_FLIGHT
    await payer.settle(preimage)
    assert (await paying).preimage == preimage

    request, preimage = await payer.hold_invoice(50)
    paying = asyncio.create_task(gateway_node.pay(request))
    await payer.wait_accepted(hashlib.sha256(preimage).digest())
    await payer.cancel(hashlib.sha256(preimage).digest())
    assert (await paying).status is PaymentStatus.FAILED


async def test_what_a_node_never_saw_is_none(payer: AsyncControl) -> None:
    assert await payer.lookup(os.urandom(32)) is None
    assert await payer.payment(os.urandom(32)) is None


async def test_the_baked_macaroon_does_what_the_gateway_needs_and_no_more(regtest: Network) -> None:
    access = regtest.access.boltworks
    raw = access.macaroon.read_bytes()
    (permission,) = permissions_of(raw)
    assert (permission.entity, set(permission.actions)) == ("uri", set(GATEWAY_PERMISSIONS))
    assert not is_admin_macaroon(raw)
    assert is_admin_macaroon(regtest.access.gateway.macaroon.read_bytes())
    baked = NodeControl(access)
    try:
        assert baked.facts().alias == "gateway"
        assert baked.invoice(1).startswith("lnbcrt")
        for forbidden in (baked.new_address, baked.wallet_balance_sats, lambda: baked.bake(GATEWAY_PERMISSIONS)):
            with pytest.raises(NodeError, match="permission denied"):
                forbidden()
    finally:
        baked.close()


async def test_bake_makes_a_macaroon_that_only_reads(regtest: Network, tmp_path: Path) -> None:
    admin = regtest.access.gateway
    raw = await bake(
        host=admin.host,
        tls_cert=admin.tls_cert.read_bytes(),
        macaroon=admin.macaroon.read_bytes(),
        uris=WATCHER_PERMISSIONS,
    )
    (tmp_path / "watcher.macaroon").write_bytes(raw)
    watcher = NodeControl(NodeAccess(admin.host, admin.tls_cert, tmp_path / "watcher.macaroon"))
    try:
        assert watcher.lookup(os.urandom(32)) is None
        with pytest.raises(NodeError, match="permission denied"):
            watcher.invoice(1)
    finally:
        watcher.close()


async def test_a_killed_lnd_comes_back_and_is_paid(
    regtest: Network, payer: AsyncControl, gateway_node: AsyncControl
) -> None:
    request = await gateway_node.invoice(77)
    await asyncio.to_thread(regtest.kill, "gateway")
    assert not regtest.is_alive("gateway")
    assert not regtest.is_running()
    await asyncio.to_thread(regtest.start, "gateway")
    await asyncio.to_thread(regtest.wait_ready, "gateway")
    await asyncio.to_thread(regtest.wait_channels)
    assert (await payer.pay(request)).succeeded


async def test_a_killed_bitcoind_forgets_no_block_and_is_heard_again(
    regtest: Network, payer: AsyncControl, gateway_node: AsyncControl
) -> None:
    height = await asyncio.to_thread(regtest.mine, 3)
    await asyncio.to_thread(regtest.kill, "bitcoind")
    assert not regtest.is_running()
    await asyncio.to_thread(regtest.start, "bitcoind")
    await asyncio.to_thread(regtest.wait_ready, "bitcoind")
    assert regtest.bitcoind.height() > height
    assert (await gateway_node.facts()).synced_to_chain
    assert (await payer.facts()).synced_to_chain
    assert (await payer.pay(await gateway_node.invoice(5))).succeeded
    assert regtest.is_alive("miner")


async def test_a_paused_node_answers_nothing_until_it_is_resumed(regtest: Network) -> None:
    regtest.pause("payer")
    try:
        with pytest.raises(NodeError) as silence:
            await asyncio.to_thread(regtest.control("payer").facts, 0.5)
    finally:
        regtest.resume("payer")
    assert silence.value.code == "DEADLINE_EXCEEDED"
    await asyncio.to_thread(regtest.wait_ready, "payer")


@pytest.mark.native
def test_every_listener_is_on_loopback(regtest: Network) -> None:
    ours = {inode for name in NODES for inode in _socket_inodes(regtest.state.processes[name].pid)}
    listeners = [address for inode, address in _listeners() if inode in ours]
    assert len(listeners) == 7
    assert {address for address, _ in listeners} == {"127.0.0.1"}


@pytest.mark.native
def test_secrets_are_private_and_on_no_command_line(regtest: Network) -> None:
    password = regtest.state.rpc_password
    for name in NODES:
        assert password not in Path(f"/proc/{regtest.state.processes[name].pid}/cmdline").read_text()
    assert stat.S_IMODE(regtest.directory.stat().st_mode) == 0o700
    holders = [path for path in regtest.directory.glob("*/*.conf") if password in path.read_text()]
    assert len(holders) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in holders} == {0o600}


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Network]:
    """Another network beside the session's."""
    network = Network(tmp_path / "second")
    yield network
    network.down(purge=True)


@pytest.mark.native
def test_two_networks_side_by_side_and_purge_leaves_nothing(
    regtest: Network, second: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file = tmp_path / "regtest.env"
    second.up(env_file=env_file, owner=myself())
    first_ports, ports = regtest.state.ports, second.state.ports
    assert not set(_values(first_ports)) & set(_values(ports))
    pids = dict(second.state.processes)
    assert set(pids) == {*NODES, "miner"}

    env_file.unlink()
    second.up(env_file=env_file)
    assert second.state.processes == pids
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600

    assert second.down()
    assert not any(map(is_alive, pids.values()))
    second.up()
    assert second.state.ports == ports
    again = dict(second.state.processes)
    second.wait_channels()
    request = second.control("gateway").invoice(5)
    assert second.control("payer").pay(request).succeeded

    monkeypatch.chdir("/")
    assert second.down(purge=True)
    assert not any(map(is_alive, again.values()))
    assert not second.directory.exists()
    assert regtest.is_running()


@pytest.mark.native
def test_a_network_ends_with_its_owner(tmp_path: Path) -> None:
    network = Network(tmp_path / "owned")
    owner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        network.up(owner=ProcessId(owner.pid, born(owner.pid) or ""))
        pids = dict(network.state.processes)
    finally:
        owner.communicate(b"\n")
    assert wait_gone(pids.values(), timeout_s=40) == []
    assert not network.directory.exists()


def test_the_commands(regtest: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOLTWORKS_REGTEST_DIR", str(regtest.directory))
    assert _run("status", "--json")["running"] is True
    request = regtest.control("gateway").invoice(21)
    paid = _run("pay", request, "--json")
    assert (paid["status"], paid["amountMsat"], paid["feeMsat"]) == ("succeeded", 21_000, 0)
    assert hashlib.sha256(bytes.fromhex(paid["preimage"])).hexdigest() == paid["paymentHash"]
    height = _run("mine", "--json")["height"]
    assert _run("mine", "2", "--json")["height"] == height + 2
    mine = _run("invoice", "9", "--memo", "for me", "--json")["paymentRequest"]
    assert regtest.control("gateway").pay(mine).succeeded
    again = CliRunner().invoke(regtest_command, ["pay", request])
    assert again.exit_code == 1
    assert "already paid" in again.output
    shown = CliRunner().invoke(regtest_command, ["logs", "payer", "-n", "5"])
    assert (shown.exit_code, len(shown.stdout.splitlines())) == (0, 5)


def test_commands_without_a_network_fail_in_plain_words(tmp_path: Path) -> None:
    for words in (["status"], ["pay", "lnbcrt1"], ["invoice", "5"], ["mine"], ["logs"]):
        outcome = CliRunner().invoke(regtest_command, [*words, "--dir", str(tmp_path / "none")])
        assert outcome.exit_code == 1
        assert "regtest up" in outcome.output
    assert CliRunner().invoke(regtest_command, ["down", "--dir", str(tmp_path / "none")]).exit_code == 0


def _run(*words: str) -> dict[str, Any]:
    outcome = CliRunner().invoke(regtest_command, list(words))
    assert outcome.exit_code == 0, outcome.output
    facts: dict[str, Any] = json.loads(outcome.stdout)
    return facts


def _values(ports: object) -> list[int]:
    return [getattr(ports, name) for name in ports.__slots__]  # type: ignore[attr-defined]


def _socket_inodes(pid: int) -> list[str]:
    links = (str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir())
    return [link[len("socket:[") : -1] for link in links if link.startswith("socket:[")]


def _listeners() -> Iterator[tuple[str, tuple[str, int]]]:
    """(inode, (address, port)) of all TCP listeners of this machine."""
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        path = Path("/proc/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            words = line.split()
            address, port = words[1].split(":")
            if words[3] == LISTEN:
                yield words[9], (_readable(address, family), int(port, 16))


def _readable(address: str, family: socket.AddressFamily) -> str:
    """/proc writes each 32 bits in the machine's own byte order."""
    groups = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    return socket.inet_ntop(family, struct.pack(f"={len(groups)}I", *groups))
