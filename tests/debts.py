"""A job that failed after it was paid, with its books in order: what a test of refunds begins with."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from gateway.refunds.destination import Destination
from ledger import sql
from ledger.database import Connection, Pool
from ledger.money import sats_to_msat
from lightning.types import PaymentRequest

_q = sql.load("gateway.jobs")
PAYEE, OTHER_PAYEE = "03" + "22" * 32, "03" + "33" * 32


def job_name(number: int) -> str:
    return f"job-{number:018}"


async def owe(pool: Pool, job_id: str, amount_sats: int) -> None:
    """One refund `refund-<job>` of that many sats is pending."""
    await pool.execute(
        "insert into jobs (id, work, input, state, serve, estimate_sats, work_amount_sats, token_hash, client_address,"
        " failure_reason, user_charge_sats) values ($1, 'x', '{}', 'failed', 'gate', $2, $2, $3, '127.0.0.1', 'x', 0)",
        job_id,
        amount_sats,
        bytes(32),
    )
    await owe_more(pool, job_id, amount_sats, f"failed:{job_id}", f"refund-{job_id}")


async def owe_more(pool: Pool | Connection, job_id: str, amount_sats: int, cause: str, refund_id: str) -> None:
    """One more payment of the job was settled and is owed back."""
    preimage = f"preimage of {cause}".encode()
    payment_hash, amount_msat = hashlib.sha256(preimage).digest(), sats_to_msat(amount_sats)
    await pool.execute(
        "insert into invoices (payment_hash, preimage, purpose, job_id, client_address, amount_msat, memo, state,"
        " payment_request, planned_expires_at, expires_at, amount_paid_msat, settled_at)"
        " values ($1, $2, 'work', $3, '127.0.0.1', $4, 'x', 'settled', 'ln', now(), now(), $4, now())",
        payment_hash,
        preimage,
        job_id,
        amount_msat,
    )
    await pool.execute(
        "insert into accounts (code, kind, limited) values ('holding:' || $1, 'liability', true)"
        " on conflict do nothing",
        job_id,
    )
    await pool.execute(
        "insert into transfers (cause_kind, cause_id, debit, credit, amount_msat) values"
        " ('settlement', $1, 'node', 'holding:' || $2::text, $4),"
        " ('refund_owed', $3, 'holding:' || $2::text, 'refunds_payable', $4)",
        payment_hash.hex(),
        job_id,
        cause,
        amount_msat,
    )
    await pool.execute(_q.insert_refund, refund_id, job_id, cause, amount_sats)


def destination(name: str, payee: str = PAYEE) -> Destination:
    """An amountless invoice with a payment hash of its own."""
    now = datetime.now(UTC)
    request = PaymentRequest(
        payment_request=f"ln-{name}",
        network="regtest",
        destination=payee,
        payment_hash=hashlib.sha256(name.encode()).digest(),
        amount_msat=sats_to_msat(0),
        created_at=now,
        expires_at=now + timedelta(hours=1),
        min_final_cltv=80,
        description="",
    )
    return Destination(f"ln-{name}", request)
