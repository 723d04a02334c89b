"""The books against the node, at the operator's word."""

from __future__ import annotations

from gateway.context import Gateway
from gateway.execution.queue import enqueue
from gateway.operator.log import Actor, acting
from gateway.reconcile.report import Report
from gateway.reconcile.run import reconcile


async def reconcile_now(gateway: Gateway, actor: Actor) -> Report:
    """As `boltworks reconcile`: a node that does not answer is a report that says so.

    A person's run is logged; a program that asks by the API all day is logged when it repaired something.
    """
    report = await reconcile(gateway.pool, gateway.node, enqueue, gateway.rules, gateway.metrics)
    if actor.who == "key" and not report.repaired:
        return report
    async with acting(gateway.pool, actor, "reconcile", "books", words(report)):
        pass
    return report


def words(report: Report) -> str:
    """Pure."""
    if not report.is_known:
        return "unknown: the node did not answer"
    repaired = f", {len(report.repaired)} repaired" if report.repaired else ""
    if report.is_clean:
        return "nothing differs" + repaired
    return (f"{len(report.findings)} differences" if report.findings else "the totals differ") + repaired
