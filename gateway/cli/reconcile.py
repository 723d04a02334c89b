"""`reconcile`: the books against the node; and the operator's word on a frozen refund."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import click

from gateway.catalogue import load_catalogue
from gateway.cli.main import stop
from gateway.database import StartError, open_database
from gateway.execution.queue import enqueue
from gateway.operator.log import COMMAND
from gateway.operator.refunds import decide_frozen
from gateway.problems import Problem
from gateway.reconcile.accept import AcceptError, WasNotPaid, WasPaid, find_frozen
from gateway.reconcile.report import Report
from gateway.reconcile.run import reconcile
from gateway.settings import Settings
from gateway.start import open_node
from lightning.node import Node
from lightning.types import NodeUnavailable

UNKNOWN = 3
"""Exit code when the node did not answer."""


async def reconcile_now(settings: Settings, *, as_json: bool) -> int:
    """0 when nothing differs (any more), 1 when something does, 3 when the node's side is unknown."""
    async with open_node(settings) as node, open_database(settings) as pool:
        report = await reconcile(pool, node, enqueue, load_catalogue(settings.config).gate_rules)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
    else:
        _show(report)
    if not report.is_known:
        return UNKNOWN
    return 0 if report.is_clean else 1


def _show(report: Report) -> None:
    totals = report.totals
    rows = {
        "settled at the node": totals and totals.settled_msat,
        "paid out by the node": totals and totals.paid_out_msat,
        "routing fees": totals and totals.fees_msat,
        "node in all": totals and totals.node_msat,
        "the book's node account": report.book_msat,
        "difference": totals and totals.difference_msat,
    }
    for name, msat in rows.items():
        click.echo(f"{name:26} {'unknown' if msat is None else f'{msat:,}':>20} msat")
    if report.under_way_msat:
        click.echo(f"of the difference, {report.under_way_msat:,} msat are refunds that are about to be booked")
    for word, findings in (("REPAIRED", report.repaired), ("DIFFERS ", report.findings)):
        for finding in findings:
            click.echo(f"{word} {finding.payment_hash.hex()} {finding.kind}: {finding.detail}")
    if not report.is_known:
        click.echo(f"unknown: the node did not answer ({report.why_unknown})")
    else:
        click.echo("nothing differs" if report.is_clean else f"{len(report.findings)} differences")


async def accept_now(
    settings: Settings, attempt_id: str, verdict: str, preimage: str | None, fee_msat: int | None, *, yes: bool
) -> int:
    """Asks before it writes, unless `yes`."""
    decided = _verdict(verdict, preimage, fee_msat)
    async with open_database(settings) as pool, _node_if_any(settings) as node:
        try:
            attempt = await find_frozen(pool, attempt_id)
            click.echo(
                f"attempt {attempt_id} of job {attempt['job_id']}: {attempt['amount_sats']} sats,"
                f" payment hash {bytes(attempt['payment_hash']).hex()}, frozen because: {attempt['failure_reason']}",
                err=True,
            )
            meaning = "was paid" if isinstance(decided, WasPaid) else "was NOT paid, and is owed again"
            if not yes:
                click.confirm(f"Book that it {meaning}?", abort=True, err=True)
            await decide_frozen(pool, node, COMMAND, attempt_id, decided)
        except AcceptError as error:
            stop(str(error))
        except Problem as problem:
            stop(problem.detail)
        except NodeUnavailable as error:
            stop(f"LND did not answer ({error}), and it may know better: nothing was booked")
    click.echo(f"accepted: {attempt_id} {meaning}")
    return 0


@asynccontextmanager
async def _node_if_any(settings: Settings) -> AsyncIterator[Node | None]:
    """None: it is not configured here, and the operator's word stands alone."""
    async with AsyncExitStack() as stack:
        try:
            node = await stack.enter_async_context(open_node(settings))
        except StartError as error:
            click.echo(f"LND is not asked whether it was paid: {error}", err=True)
            node = None
        yield node


def _verdict(verdict: str, preimage: str | None, fee_msat: int | None) -> WasPaid | WasNotPaid:
    if verdict == "failed":
        if preimage is not None or fee_msat is not None:
            stop("--preimage and --fee-msat belong to --as paid", code=2)
        return WasNotPaid()
    if preimage is None or fee_msat is None:
        stop("--as paid needs the proof: --preimage HEX and --fee-msat N", code=2)
        raise AssertionError("stopped")
    try:
        return WasPaid(bytes.fromhex(preimage), fee_msat)
    except ValueError:
        stop("--preimage must be hexadecimal", code=2)
        raise
