"""`boltworks regtest …`: the commands on the network. A failure is plain words on stderr and exit code 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from lightning.regtest.paths import regtest_dir
from lightning.regtest.progress import Progress

if TYPE_CHECKING:
    from lightning.regtest.network import Network, NodeStatus

P = ParamSpec("P")
R = TypeVar("R")

dir_option = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="The network's directory [default: $BOLTWORKS_REGTEST_DIR, else regtest in the data directory].",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")


def plain_failures(command: Callable[P, R]) -> Callable[P, R]:
    """Turns what can go wrong into one message and exit code 1."""

    @wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        from lightning.regtest.binaries import BinariesMissing
        from lightning.regtest.control import NodeError, NotReady
        from lightning.regtest.network import RegtestError
        from lightning.regtest.ports import NoFreePorts
        from lightning.regtest.processes import ProcessWillNotEnd
        from lightning.regtest.state import BadState

        try:
            return command(*args, **kwargs)
        except NodeError as error:
            raise click.ClickException(f"LND refused ({error.code}): {error.detail}") from error
        except (RegtestError, BinariesMissing, NotReady, NoFreePorts, BadState, ProcessWillNotEnd) as error:
            raise click.ClickException(str(error)) from error
        except PermissionError as error:
            raise click.ClickException(f"No permission for {error.filename}.") from error

    return wrapper


@click.group()
def regtest() -> None:
    """A real regtest network: bitcoind and two LND nodes, `gateway` and `payer`.

    As native processes, or (`up --docker`) as containers, with PostgreSQL and a gateway beside them. All other
    commands find out by themselves which of the two is in the directory.
    """


@regtest.command()
@dir_option
@click.option(
    "--env",
    "env_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the settings that `boltworks serve` and other programs need to this file, as KEY=value lines.",
)
@click.option("--docker", is_flag=True, help="As containers; images are built once where none are named.")
@plain_failures
def up(directory: Path | None, env_file: Path | None, docker: bool) -> None:
    """Start the network, or what of it died; return once a payment has succeeded each way.

    The nodes go on running. The first time, bitcoind is fetched and LND is built, which takes some minutes.
    """
    network = _network(directory, Progress(), docker=docker)
    network.up(env_file=env_file)
    click.echo(f"The regtest network is up in {network.directory}.")
    if env_file is not None:
        click.echo(f"Its settings are in {env_file.absolute()}.")


@regtest.command()
@dir_option
@click.option("--purge", is_flag=True, help="Also remove the network's files: chain, wallets, channels, logs.")
@plain_failures
def down(directory: Path | None, purge: bool) -> None:
    """End the network's processes or containers; `up` starts them again with the same channels."""
    network = _network(directory)
    if network.down(purge=purge):
        click.echo(f"The regtest network in {network.directory} is {'removed' if purge else 'down'}.")
    else:
        click.echo(f"There is no regtest network in {network.directory}.")


@regtest.command()
@dir_option
@json_option
@click.pass_context
@plain_failures
def status(ctx: click.Context, directory: Path | None, as_json: bool) -> None:
    """Show the nodes. Exit code 0 when all of them run, else 1."""
    network = _network(directory)
    nodes = network.status() if network.exists() else []
    running = network.is_running()
    if as_json:
        facts = {"directory": str(network.directory), "running": running}
        _print_json({**facts, "nodes": [_node_facts(node) for node in nodes]})
    elif nodes:
        for node in nodes:
            pid = f"pid {node.pid}" if node.pid else "not running"
            click.echo(f"{node.name:10}{node.address:18}{pid:13}{node.detail if node.pid else ''}".rstrip())
    else:
        click.echo(f"There is no regtest network in {network.directory}; `boltworks regtest up` makes one.")
    ctx.exit(0 if running else 1)


@regtest.command()
@dir_option
@json_option
@click.argument("bolt11")
@click.option("--amount-sats", type=click.IntRange(min=1), help="For an invoice without an amount.")
@plain_failures
def pay(directory: Path | None, as_json: bool, bolt11: str, amount_sats: int | None) -> None:
    """Let the payer pay the invoice BOLT11."""
    bolt11 = bolt11.strip().removeprefix("lightning:").removeprefix("LIGHTNING:")
    payment = _network(directory).control("payer").pay(
        bolt11, amount_msat=amount_sats * 1000 if amount_sats else None
    )  # fmt: skip
    if as_json:
        _print_json(
            {
                "status": payment.status.value,
                "paymentHash": payment.payment_hash.hex(),
                "amountMsat": payment.amount_msat,
                "feeMsat": payment.fee_msat,
                **({"preimage": payment.preimage.hex()} if payment.succeeded else {"failure": payment.failure}),
            }
        )
    if not payment.succeeded:
        raise click.ClickException(f"Not paid: {payment.failure or payment.status.value}.")
    if not as_json:
        click.echo(f"Paid {_sats(payment.amount_msat)} sats, fee {_sats(payment.fee_msat)} sats.")
        click.echo(f"Preimage {payment.preimage.hex()}")


@regtest.command()
@dir_option
@json_option
@click.argument("amount_sats", type=click.IntRange(min=0))
@click.option("--memo", default="", help="What the invoice says it is for.")
@click.option("--expiry-s", type=click.IntRange(min=1), default=3600, show_default=True)
@plain_failures
def invoice(directory: Path | None, as_json: bool, amount_sats: int, memo: str, expiry_s: int) -> None:
    """Print an invoice of the payer over AMOUNT_SATS (0: the one who pays chooses)."""
    request = _network(directory).control("payer").invoice(amount_sats, memo=memo, expiry_s=expiry_s)
    if as_json:
        _print_json({"paymentRequest": request, "amountSats": amount_sats})
    else:
        click.echo(request)


@regtest.command()
@dir_option
@json_option
@click.argument("blocks", type=click.IntRange(1, 1000), default=1)
@plain_failures
def mine(directory: Path | None, as_json: bool, blocks: int) -> None:
    """Mine BLOCKS blocks (default 1)."""
    height = _network(directory).mine(blocks)
    if as_json:
        _print_json({"blocks": blocks, "height": height})
    else:
        click.echo(f"Mined {blocks}; the chain is at height {height}.")


@regtest.command()
@dir_option
@click.argument("node", default="gateway")
@click.option("-n", "lines", type=click.IntRange(min=1), default=50, show_default=True, help="How many lines.")
@plain_failures
def logs(directory: Path | None, node: str, lines: int) -> None:
    """Show the end of a node's log (default: the gateway's): bitcoind, gateway, payer.

    Of a network of containers also postgres, worker, watcher, and boltworks for the server.
    """
    network = _network(directory)
    if node not in (known := network.log_names):
        raise click.BadParameter(f"{node} is none of {', '.join(known)}.")
    click.echo(f"{network.log_file(node)}:", err=True)
    click.echo(network.tail(node, lines), nl=False)


def _network(directory: Path | None, progress: Progress | None = None, *, docker: bool = False) -> Network:
    from lightning.regtest.network import open_network

    return open_network(directory or regtest_dir(), progress, docker=docker)


def _node_facts(node: NodeStatus) -> dict[str, Any]:
    """What is not known is absent."""
    facts = {
        "name": node.name,
        "running": node.pid is not None,
        "pid": node.pid,
        "address": node.address,
        "height": node.height,
        "synced": node.synced,
        "channels": node.channels,
        "balanceSats": node.balance_sats,
        "pubkey": node.pubkey,
        "problem": node.problem or None,
    }
    return {key: value for key, value in facts.items() if value is not None}


def _sats(amount_msat: int) -> str:
    whole, rest = divmod(amount_msat, 1000)
    return f"{whole:,}.{rest:03}" if rest else f"{whole:,}"


def _print_json(facts: dict[str, Any]) -> None:
    click.echo(json.dumps(facts, indent=2))
