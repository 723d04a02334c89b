"""A job is bought: priced, decided, stored with its planned invoice, then invoiced at LND.

Intent first: job, invoice and preimage are committed before LND is asked. Whatever dies after that, the same
`Idempotency-Key` resumes the same job, and the sweep ends one that nobody resumes.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any, TypeAlias

from gateway import problems
from gateway.api.models import JobView
from gateway.ids import token_hash
from gateway.jobs.view import job_view
from ledger import sql
from ledger.database import Connection, Pool, to_jsonb
from ledger.free_tier import Decision
from ledger.money import Msat, sats_to_msat
from lightning.node import Node
from lightning.types import InvoiceConflict

_q = sql.load("gateway.jobs")

ClientAddress: TypeAlias = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class NewJob:
    id: str
    token: str
    work: str
    input: Mapping[str, Any]
    estimate_sats: int
    client_address: ClientAddress
    refund_to: str | None
    memo: str


@dataclass(frozen=True, slots=True)
class InvoiceLimits:
    expiry_s: int
    open_per_address: int


@dataclass(frozen=True, slots=True)
class PlannedInvoice:
    preimage: bytes
    amount_msat: Msat
    memo: str
    expiry_s: int

    @property
    def payment_hash(self) -> bytes:
        return hashlib.sha256(self.preimage).digest()


def plan_invoice(amount_sats: int, memo: str, expiry_s: int) -> PlannedInvoice:
    return PlannedInvoice(secrets.token_bytes(32), sats_to_msat(amount_sats), memo, expiry_s)


async def store_job(pool: Pool, job: NewJob, decision: Decision, limits: InvoiceLimits) -> PlannedInvoice:
    """The job and its planned invoice in one statement, or a Problem and nothing.

    The cap on open invoices is soft: callers that race may pass it by their own number, never by more.
    """
    planned = plan_invoice(decision.charge_sats, job.memo, limits.expiry_s)
    stored = await pool.fetchval(
        _q.store_job,
        job.id,
        job.work,
        to_jsonb(job.input),
        decision.serve,
        job.estimate_sats,
        decision.absorb_sats,
        decision.charge_sats,
        token_hash(job.token),
        job.client_address,
        job.refund_to,
        planned.payment_hash,
        planned.preimage,
        planned.amount_msat,
        planned.memo,
        planned.expiry_s,
        limits.open_per_address,
    )
    if stored is None:
        raise problems.Problem(
            problems.TOO_MANY_INVOICES,
            f"{limits.open_per_address} invoices to your address are unpaid. Pay one, cancel one, or wait.",
            headers={"Retry-After": "60"},
        )
    return planned


async def store_invoice(conn: Connection, planned: PlannedInvoice, job_id: str, address: ClientAddress) -> None:
    await conn.execute(
        _q.insert_invoice,
        planned.payment_hash,
        planned.preimage,
        job_id,
        address,
        planned.amount_msat,
        planned.memo,
        planned.expiry_s,
    )


async def resume_invoice(conn: Connection, job: NewJob, limits: InvoiceLimits) -> PlannedInvoice | None:
    """The planned invoice of a job whose creation was interrupted; None when LND's answer was stored already.

    A stored preimage is used only before its planned expiry; after that the job gets a new invoice.
    """
    row = await conn.fetchrow(_q.planned_invoice, job.id)
    if row is not None and row["state"] != "planned":
        return None
    if row is not None and row["expiry_s"] >= 10:
        return PlannedInvoice(bytes(row["preimage"]), Msat(row["amount_msat"]), row["memo"], row["expiry_s"])
    amount_sats = await conn.fetchval("select work_amount_sats from jobs where id = $1", job.id)
    planned = plan_invoice(amount_sats, job.memo, limits.expiry_s)
    await store_invoice(conn, planned, job.id, job.client_address)
    return planned


async def open_at_node(pool: Pool, node: Node, planned: PlannedInvoice) -> JobView:
    """Ask LND for the invoice and store its answer. Raises NodeUnavailable, InvoiceConflict (a fault: 500)."""
    invoice = await node.add_invoice(planned.preimage, planned.amount_msat, planned.memo, planned.expiry_s)
    if invoice.amount_msat != planned.amount_msat:
        raise InvoiceConflict("LND answered with another amount than was asked for")
    row = await pool.fetchrow(_q.open_invoice, planned.payment_hash, invoice.payment_request, invoice.expires_at)
    if row is None:
        raise RuntimeError("a planned invoice vanished: rows are never deleted")
    return job_view(row)
