"""`python -m tests.chaos`: a long run on nodes of its own, its event log in `artefacts/`. See docs/chaos.md."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from pathlib import Path

import click

from lightning.regtest.network import Network
from lightning.regtest.processes import myself
from tests.chaos.run import run

CHANNELS = 10
"""LND itself can lose one to a SIGKILL (docs/chaos.md)."""


@click.command()
@click.option("--seconds", type=click.FloatRange(min=10), default=600, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--buyers", type=click.IntRange(min=1), default=8, show_default=True, help="At once.")
@click.option("--log", "log_file", type=click.Path(dir_okay=False, path_type=Path), help="The event log.")
def main(seconds: float, seed: int, buyers: int, log_file: Path | None) -> None:
    """Kill and freeze at random under load, then compare all books. If they differ: exit code 1, all is kept."""
    log_file = log_file or Path("artefacts") / f"chaos-{seed}.jsonl"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="boltworks-chaos-"))
    network = Network(folder / "regtest", channels=CHANNELS)
    click.echo(f"seed {seed}, {seconds:.0f} s, {buyers} buyers; everything is in {folder}", err=True)
    try:
        network.up(owner=myself())
        payer = network.async_control("payer")
        outcome = asyncio.run(run(folder, network, payer, log_file, seed=seed, seconds=seconds, buyers=buyers))
        payer.close()
    finally:
        network.down()
    click.echo(json.dumps(outcome.to_dict(), indent=2))
    outcome.assert_right()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
