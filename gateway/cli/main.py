"""The group of commands. Each imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import click

from gateway.settings import Settings, SettingsError, load_settings
from ledger.money import MAX_SATS

EPILOG = "Settings are BOLTWORKS_… in the environment or .env; see docs/operator.md."


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="boltworks", prog_name="boltworks")
def main() -> None:
    """boltworks sells work for sats: a Lightning payment gateway beside your LND."""


def settings(**overrides: Any) -> Settings:
    """The settings, or one line on stderr and exit 2."""
    from gateway.logs import set_up_logging

    try:
        loaded = load_settings(**{name: value for name, value in overrides.items() if value is not None})
    except SettingsError as error:
        stop(str(error), code=2)
    set_up_logging(loaded.log_format, loaded.log_level)
    return loaded


def stop(line: str, code: int = 1) -> Any:
    """One plain line on stderr, and out."""
    click.echo(f"boltworks: {line}", err=True)
    sys.exit(code)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end; what is expected to go wrong is one line, not a traceback."""
    from gateway.catalogue import CatalogueError
    from gateway.database import StartError
    from lightning.types import NodeRefused, NodeUnavailable

    try:
        with asyncio.Runner(loop_factory=_loop) as runner:
            return runner.run(work)
    except (StartError, CatalogueError) as error:
        stop(str(error))
    except (NodeUnavailable, NodeRefused) as error:
        stop(f"the Lightning node: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _loop() -> asyncio.AbstractEventLoop:
    """uvloop: the same loop, in less of the machine's time."""
    import uvloop

    return uvloop.new_event_loop()


@main.command()
@click.option("--no-watch", is_flag=True, help="Leave following the node to `boltworks watch`.")
@click.option("--no-work", is_flag=True, help="Leave work and refunds to `boltworks worker`.")
@click.option("--listen", metavar="HOST:PORT", help="Instead of BOLTWORKS_LISTEN.")
def serve(no_watch: bool, no_work: bool, listen: str | None) -> None:
    """Run the whole gateway: pages, API, watcher, work and refunds."""
    from gateway.serve import serve as serve_until_stopped

    run(serve_until_stopped(settings(listen=listen), watch=not no_watch, work=not no_work))


@main.command()
def worker() -> None:
    """Take paid work and refunds, beside a server started with --no-work."""
    from gateway.serve import work_only

    run(work_only(settings()))


@main.command()
def watch() -> None:
    """Follow the node's settlements and deliver them to the server's webhook.

    Meant for a process beside the node; a macaroon that only reads invoices is enough.
    BOLTWORKS_WEBHOOK_URL names the server's webhook, if it is not on this machine.
    """
    from gateway.serve import watch_only

    run(watch_only(settings()))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
def migrate(as_json: bool) -> None:
    """Bring the database up to this release. `serve` does it by itself."""
    from gateway.cli.books import migrate_now

    run(migrate_now(settings(), as_json=as_json))


@main.command()
@click.option("--self-test", is_flag=True, help="Break every invariant in a rolled-back transaction.")
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
def audit(self_test: bool, as_json: bool) -> None:
    """Recompute every balance and check every invariant of the books."""
    from gateway.cli.books import audit_now

    sys.exit(run(audit_now(settings(), self_test=self_test, as_json=as_json)))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
@click.option("--accept", "attempt_id", metavar="ATTEMPT_ID", help="Decide a frozen refund; with --as.")
@click.option(
    "--as", "verdict", type=click.Choice(["paid", "failed"]), help="What became of it; LND is asked before `failed`."
)
@click.option("--preimage", metavar="HEX", help="With --as paid: the proof of payment.")
@click.option("--fee-msat", type=click.IntRange(min=0), help="With --as paid: the routing fee that it took.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def reconcile(
    as_json: bool, attempt_id: str | None, verdict: str | None, preimage: str | None, fee_msat: int | None, yes: bool
) -> None:
    """Compare the books with the node's, per payment hash; book settlements that nobody booked.

    Exit code 0: nothing differs. 1: something does. 3: the node did not answer, its side is unknown.
    """
    from gateway.cli.reconcile import accept_now, reconcile_now

    if (attempt_id is None) != (verdict is None):
        stop("--accept ATTEMPT_ID and --as paid|failed go together", code=2)
    if attempt_id is None or verdict is None:
        sys.exit(run(reconcile_now(settings(), as_json=as_json)))
    sys.exit(run(accept_now(settings(), attempt_id, verdict, preimage, fee_msat, yes=yes)))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
def doctor(as_json: bool) -> None:
    """Say what is missing or wrong, in plain words."""
    from gateway.cli.doctor import examine

    sys.exit(run(examine(as_json=as_json)))


@main.group()
def pool() -> None:
    """The free-tier pool."""


@pool.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
def pool_show(as_json: bool) -> None:
    """Say what the pool can give, has set aside and gave today."""
    from gateway.cli.pool import show_pool

    run(show_pool(settings(), as_json=as_json))


@pool.command("topup")
@click.argument("amount_sats", metavar="SATS", type=click.IntRange(1, MAX_SATS))
@click.option("--key", metavar="KEY", help="20 characters or more: the same key tops up once, here and by the API.")
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
def pool_topup(amount_sats: int, key: str | None, as_json: bool) -> None:
    """Give the pool SATS of your capital; booked at once, no payment is made.

    Exit code 0: booked, or booked before under this key. 1: refused, nothing was booked. 2: typed wrongly.
    """
    from gateway.cli.pool import topup_pool

    run(topup_pool(settings(), amount_sats, key, as_json=as_json))


@main.group()
def macaroon() -> None:
    """Macaroons with least privilege."""


@macaroon.command()
@click.option("--host", metavar="HOST:PORT", help="LND's gRPC; default BOLTWORKS_LND_HOST.")
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False), help="Default BOLTWORKS_LND_TLS_CERT.")
@click.option(
    "--admin-macaroon",
    type=click.Path(exists=True, dir_okay=False),
    required=True,
    help="LND's admin.macaroon; it is only read, and only for this.",
)
@click.option("--for", "role", type=click.Choice(["gateway", "watcher"]), default="gateway", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, writable=True), required=True, help="Written with mode 0600.")
def bake(host: str | None, tls_cert: str | None, admin_macaroon: str, role: str, out: str) -> None:
    """Bake the macaroon that the gateway (or a separate watcher) needs, and no more."""
    from gateway.cli.bake import bake_macaroon

    loaded = settings(lnd_host=host, lnd_tls_cert=tls_cert)
    run(bake_macaroon(loaded, admin_macaroon=admin_macaroon, role=role, out=out))


@main.command()
@click.option("--once", is_flag=True, help="Exit after the narration instead of serving on.")
@click.option("--json", "as_json", is_flag=True, help="Print the amounts as JSON at the end.")
def demo(once: bool, as_json: bool) -> None:
    """Start real nodes on regtest, sell one job, refund the rest, and tell every amount."""
    from gateway.cli.demo import run_demo

    sys.exit(run(run_demo(once=once, as_json=as_json)))


@main.group()
def bench() -> None:
    """Benchmarks, as ratios within one run."""


@bench.command("gate")
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=8, show_default=True, help="For each of the five.")
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
def bench_gate(seconds: float, as_json: bool) -> None:
    """Decisions a second of the gate.

    The usual way, ours, and plain inserts as the disk's limit, on one server in one run.
    """
    from gateway.cli.bench import bench_gate as run_bench

    run(run_bench(settings(), seconds=seconds, as_json=as_json))


@bench.command("node")
@click.option("--scale", type=click.IntRange(1, 100), default=1, show_default=True, help="How much is measured.")
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
def bench_node(scale: int, as_json: bool) -> None:
    """The gateway beside the raw LND under it, on regtest nodes of its own.

    Rates interleaved in one run, and what a SIGKILL and malformed bodies leave wrong.
    """
    from gateway.cli.bench import bench_node as run_bench

    run(run_bench(scale=scale, as_json=as_json))


def _add_regtest() -> None:
    from lightning.regtest.cli import regtest

    main.add_command(regtest)


_add_regtest()
