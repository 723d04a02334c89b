"""`demo`: real nodes on regtest, one whole job over the public API, every amount told and checked."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import click
from coincurve import PrivateKey

from gateway.audit import all_invariants
from gateway.cli.demo_partial import TOPUP_SATS, shared_tier, signed_call, tell_pool
from gateway.context import Gateway
from gateway.database import StartError
from gateway.logs import set_up_logging
from gateway.serve import running_server, stop_on_signals
from gateway.settings import Settings, SettingsError, load_settings
from ledger.audit import find_violations
from ledger.money import Msat
from lightning.lnd import LndNode
from lightning.regtest.binaries import BinariesMissing
from lightning.regtest.network import Network, RegtestError, open_network
from lightning.regtest.paths import regtest_dir
from lightning.regtest.progress import Progress
from lightning.types import Settled

WORK = "markdown-pdf"
TEXT = """# Three sats well spent

This page was typeset by **boltworks** and paid for over *Lightning*.

1. The gateway asked for an estimate: the most that this text can cost.
2. A second node paid that.
3. What was not used went back, as real sats over a real channel.
"""
WAIT_S = 60


class DemoFailed(Exception):
    """Something did not add up; one plain line."""


async def run_demo(*, once: bool, as_json: bool) -> int:
    """Exit code 0 when every amount is right."""
    network = open_network(regtest_dir(), Progress())
    was_running = network.is_running()
    stopping = asyncio.Event()
    try:
        with stop_on_signals(stopping):
            await asyncio.to_thread(network.up)
            async with running_server(demo_settings(network), stopping=stopping) as gateway:
                url = gateway.settings.base_url
                async with payer_node(network) as payer, aiohttp.ClientSession(url) as http:
                    amounts = await narrate(http, payer, url)
                    amounts |= await narrate_partial(http, payer, gateway)
                    await check_books(gateway.pool)
                click.echo("The books are right: every invariant holds.")
                if as_json:
                    click.echo(json.dumps(amounts))
                if not once:
                    click.echo(f"\nServing on {url} - buy a job there. Ctrl-C ends it.")
                    await stopping.wait()
        return 0
    except (RegtestError, BinariesMissing, DemoFailed, SettingsError) as error:
        raise StartError(str(error)) from None
    finally:
        if not was_running:
            await asyncio.to_thread(network.down)


def demo_settings(network: Network) -> Settings:
    """Its own data, beside the operator's; the node is the regtest one, whatever the environment says."""
    base = load_settings()
    set_up_logging(base.log_format, "warning" if base.log_level == "info" else base.log_level)
    access = network.access
    return load_settings(
        data_dir=base.data_dir / "demo",
        database_url=None,
        lnd_host=access.boltworks.host,
        lnd_tls_cert=access.boltworks.tls_cert,
        lnd_macaroon=access.boltworks.macaroon,
        regtest_payer_lnd_host=access.payer.host,
        regtest_payer_lnd_tls_cert=access.payer.tls_cert,
        regtest_payer_lnd_macaroon=access.payer.macaroon,
        demo_wallet=True,
        listen=free_listen(base),
    )


def free_listen(settings: Settings) -> str:
    """The configured address, or another port on loopback when that one is taken."""
    for port in (settings.listen_port, 0):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((settings.listen_host, port))
            except OSError:
                continue
            return f"{settings.listen_host}:{sock.getsockname()[1]}"
    return settings.listen


@asynccontextmanager
async def payer_node(network: Network) -> AsyncIterator[LndNode]:
    access = network.access.payer
    async with LndNode(access.host, access.tls_cert, access.macaroon) as node:
        yield node


async def narrate(http: aiohttp.ClientSession, payer: LndNode, url: str) -> dict[str, int]:
    """Buy, pay, wait, refund; say each amount and refuse any that is off."""
    work_input = {"markdown": TEXT, "title": "Three sats well spent"}
    click.echo(f"\nThe gateway serves on {url}.")
    estimate = await call(http, "POST", "/api/estimate", {"work": WORK, "input": work_input})
    click.echo(f"Estimate for typesetting a short text: at most {estimate['estimateSats']:,} sats.")

    job = await call(http, "POST", "/api/jobs", {"work": WORK, "input": work_input})
    opened = {"Authorization": f"Bearer {job['token']}"}
    click.echo(f"Job {job['id']} waits for an invoice of {job['workAmountSats']:,} sats.")
    expect("the invoice's amount", job["invoice"]["amountSats"], estimate["chargeSats"])

    paid_sats = await pay(payer, job["invoice"]["paymentRequest"])
    click.echo(f"The second node pays {paid_sats:,} sats over the channel.")
    expect("what the payer paid", paid_sats, estimate["chargeSats"])

    job = await until(http, job["id"], opened, lambda j: j["state"] in ("complete", "failed"))
    expect("the job's state", job["state"], "complete")
    charge = job["userChargeSats"]
    click.echo(f"Work done: {job['result'].get('pages', '?')} page(s), it cost {job['actualCostSats']:,} sats.")
    expect("the refund owed", job["refundAmountSats"], paid_sats - charge)
    refunded = await take_refund(http, payer, job, opened)
    click.echo(f"Net: the payer spent {paid_sats - refunded:,} sats, exactly the charge of {charge:,}.")
    expect("paid minus refunded", paid_sats - refunded, charge)
    return {"paidSats": paid_sats, "chargeSats": charge, "refundedSats": refunded}


async def narrate_partial(http: aiohttp.ClientSession, payer: LndNode, gateway: Gateway) -> dict[str, int]:
    """The same job for somebody whom the operator gave a tier: who pays what, before and after."""
    tier = shared_tier(gateway.rules.tiers)
    if tier is None:
        return {}
    key, body = PrivateKey(), json.dumps({"work": WORK, "input": {"markdown": TEXT, "title": "Shared"}}).encode()
    operator = {"Authorization": f"Bearer {gateway.settings.operator_key.get_secret_value()}"}
    pubkey = key.public_key_xonly.format().hex()
    await call(http, "PUT", f"/api/operator/identities/{pubkey}", {"tier": tier.name}, headers=operator)
    await call(http, "POST", "/api/operator/pool/topups", {"amountSats": TOPUP_SATS}, headers=operator)
    before = await call(http, "GET", "/api/pool")
    tell_pool(f"\nThe operator gives the free pool {TOPUP_SATS} sats and a Nostr key the tier {tier.name!r}", before)
    headers = {
        "Authorization": signed_call(key, "POST", f"{gateway.settings.base_url}/api/jobs", body),
        "Content-Type": "application/json",
    }
    async with http.post("/api/jobs", data=body, headers=headers) as response:
        job: dict[str, Any] = await response.json()
        expect("the answer's status", response.status, 201)
    expect("who pays", job["serve"], "partial")
    asked, shared = job["workAmountSats"], job["absorbSats"]
    click.echo(f"Of {job['estimateSats']:,} sats the invoice asks {asked:,}, the pool adds {shared:,}.")
    paid_sats = await pay(payer, job["invoice"]["paymentRequest"])
    opened = {"Authorization": f"Bearer {job['token']}"}
    job = await until(http, job["id"], opened, lambda j: j["state"] in ("complete", "failed"))
    expect("the job's state", job["state"], "complete")
    cost, absorbed, charge = job["actualCostSats"], job["absorbedSats"], job["userChargeSats"]
    click.echo(f"Work done, it cost {cost:,} sats: the pool paid {absorbed:,}, the payer {charge:,}.")
    expect("the pool's part and the payer's", absorbed + charge, cost)
    refunded = await take_refund(http, payer, job, opened)
    expect("paid minus refunded", paid_sats - refunded, charge)
    after = await call(http, "GET", "/api/pool")
    tell_pool("Afterwards", after)
    expect("what the pool gave", after["absorbedTodaySats"] - before["absorbedTodaySats"], absorbed)
    return {"absorbedSats": absorbed, "sharedChargeSats": charge}


async def take_refund(http: aiohttp.ClientSession, payer: LndNode, job: dict[str, Any], opened: dict[str, str]) -> int:
    owed = int(job["refundAmountSats"])
    if owed == 0:
        click.echo("Nothing was left over.")
        return 0
    click.echo(f"{owed:,} sats were not used and are owed back.")
    preimage = secrets.token_bytes(32)
    invoice = await payer.add_invoice(preimage, Msat(owed * 1000), "refund of the demo", 600)
    await call(
        http, "POST", f"/api/jobs/{job['id']}/refund", {"destination": invoice.payment_request}, headers=opened, ok=202
    )
    await until(http, job["id"], opened, lambda j: j["refundState"] == "paid")
    arrived = await payer.lookup_invoice(invoice.payment_hash)
    refunded = 0 if arrived is None else arrived.amount_paid_msat // 1000
    click.echo(f"The second node's own books show {refunded:,} sats received back.")
    expect("the refund that arrived", refunded, owed)
    return refunded


async def pay(payer: LndNode, payment_request: str) -> int:
    """Sats that left the payer, routing fees included."""
    outcome = await payer.send_payment(
        payment_request, amount_msat=None, fee_limit_msat=Msat(0), cltv_limit=432, timeout_s=30, deadline_s=40
    )
    if not isinstance(outcome, Settled):
        raise DemoFailed(f"the demo payer could not pay: {outcome}")
    return (outcome.amount_msat + outcome.fee_msat) // 1000


async def call(
    http: aiohttp.ClientSession,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    *,
    headers: dict[str, str] | None = None,
    ok: int | None = None,
) -> dict[str, Any]:
    async with http.request(method, path, json=body, headers=headers) as response:
        answer: dict[str, Any] = await response.json(content_type=None)
        if response.status >= 400 or (ok is not None and response.status != ok):
            raise DemoFailed(f"{method} {path} answered {response.status}: {answer.get('detail', answer)}")
        return answer


async def until(http: aiohttp.ClientSession, job_id: str, opened: dict[str, str], reached: Any) -> dict[str, Any]:
    """Follow the job's events until it is as wished."""
    try:
        async with (
            asyncio.timeout(WAIT_S),
            http.get(f"/api/jobs/{job_id}/events", headers=opened) as response,
        ):
            async for line in response.content:
                if line.startswith(b"data: "):
                    job: dict[str, Any] = json.loads(line[6:])
                    if reached(job):
                        return job
    except TimeoutError:
        pass
    raise DemoFailed(f"job {job_id} did not get on within {WAIT_S} s")


def expect(what: str, seen: object, right: object) -> None:
    if seen != right:
        raise DemoFailed(f"{what} is {seen}, it should be {right}")


async def check_books(pool: Any) -> None:
    async with pool.acquire() as conn:
        violations = await find_violations(conn, all_invariants())
    if violations:
        raise DemoFailed(f"the books are wrong: {violations[0].invariant}: {violations[0].detail}")
