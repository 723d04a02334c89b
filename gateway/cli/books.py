"""`migrate` and `audit`."""

from __future__ import annotations

import json

import asyncpg
import click

from gateway.audit import all_invariants
from gateway.database import database_dsn, migrate_database
from gateway.settings import Settings
from ledger import book
from ledger.audit import Violation, find_violations, self_test
from ledger.database import Connection


async def migrate_now(settings: Settings, *, as_json: bool) -> None:
    async with database_dsn(settings) as dsn:
        applied = await migrate_database(dsn)
    if as_json:
        click.echo(json.dumps({"applied": [f"{m.version:04}_{m.name}" for m in applied]}))
        return
    for migration in applied:
        click.echo(f"applied {migration.version:04}_{migration.name}")
    if not applied:
        click.echo("the database is up to date")


async def audit_now(settings: Settings, *, self_test: bool, as_json: bool) -> int:
    """Exit code 0 when the books are right (and, with self-test, every break was noticed)."""
    async with database_dsn(settings) as dsn:
        await migrate_database(dsn)
        conn = await asyncpg.connect(dsn)
        try:
            return await (_self_test(conn, as_json) if self_test else _audit(conn, as_json))
        finally:
            await conn.close()


async def _audit(conn: Connection, as_json: bool) -> int:
    invariants = all_invariants()
    violations = await find_violations(conn, invariants)
    balances = await book.balances(conn)
    if as_json:
        report = {
            "clean": not violations,
            "invariants": [invariant.name for invariant in invariants],
            "violations": [{"invariant": v.invariant, "subject": v.subject, "detail": v.detail} for v in violations],
            "balancesMsat": balances,
        }
        click.echo(json.dumps(report, indent=2))
        return 1 if violations else 0
    for code, balance_msat in balances.items():
        click.echo(f"{code:20} {balance_msat:>20,} msat")
    broken = {violation.invariant for violation in violations}
    for invariant in invariants:
        click.echo(f"{'BROKEN' if invariant.name in broken else 'ok    '} {invariant.name}: {invariant.says}")
        _show([v for v in violations if v.invariant == invariant.name])
    click.echo("the books are right" if not violations else f"{len(violations)} violations")
    return 1 if violations else 0


def _show(violations: list[Violation]) -> None:
    for violation in violations:
        click.echo(f"         {violation.subject}: {violation.detail}")


async def _self_test(conn: Connection, as_json: bool) -> int:
    invariants = all_invariants()
    breaks = sum(len(invariant.breaks) for invariant in invariants)
    unnoticed = await self_test(conn, invariants)
    if as_json:
        click.echo(json.dumps({"breaks": breaks, "unnoticed": [u.invariant for u in unnoticed]}))
    else:
        for missed in unnoticed:
            click.echo(f"UNNOTICED {missed.invariant}: {missed.break_sql}")
        click.echo(f"{breaks} breaks tried and rolled back, {len(unnoticed)} unnoticed")
    return 1 if unnoticed else 0
