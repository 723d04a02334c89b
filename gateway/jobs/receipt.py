"""A job's receipt: who paid what, signed (BIP-340) so that anybody can verify it later.

What is signed is the receipt as RFC 8785 writes it: members sorted, no white space, UTF-8. It holds integers and text.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import coincurve

from gateway.api.models import JobView, ReceiptPayment, ReceiptRefund, ReceiptView, SignedReceiptView
from ledger import sql
from ledger.database import Pool
from ledger.money import whole_sats

_q = sql.load("gateway.jobs")

ENDED = ("complete", "failed", "rejected", "expired")


async def read_receipt(pool: Pool, issuer: str, job: JobView) -> ReceiptView:
    """Of a job that has ended. `issuer`: the gateway's public address."""
    paid = await pool.fetch(_q.receipt_payments, job.id)
    refunds = await pool.fetch(_q.receipt_refunds, job.id)
    return ReceiptView(
        issuer=issuer,
        job_id=job.id,
        work=job.work,
        state=job.state,
        estimate_sats=job.estimate_sats,
        actual_cost_sats=job.actual_cost_sats or 0,
        you_paid_sats=sum(whole_sats(row["amount_paid_msat"]) for row in paid),
        you_were_charged_sats=(job.user_charge_sats or 0) + (job.evaluation.charged_sats or 0 if job.evaluation else 0),
        pool_paid_sats=(job.absorbed_sats or 0) + (job.evaluation.absorbed_sats or 0 if job.evaluation else 0),
        refunded_sats=sum(row["amount_sats"] for row in refunds if row["state"] == "paid"),
        owed_back_sats=sum(row["amount_sats"] for row in refunds if row["state"] in ("pending", "paying")),
        payments=[
            ReceiptPayment(
                payment_hash=row["payment_hash"],
                purpose=row["purpose"],
                amount_sats=whole_sats(row["amount_paid_msat"]),
                at=row["settled_at"],
            )
            for row in paid
        ],
        refunds=[
            ReceiptRefund(
                amount_sats=row["amount_sats"], state=row["state"], payment_hash=row["payment_hash"], at=row["paid_at"]
            )
            for row in refunds
        ],
        ordered_at=job.created_at,
        as_of=job.updated_at,
    )


def signed(token_secret: str, receipt: ReceiptView) -> SignedReceiptView:
    """Pure but for the signature's own randomness."""
    key = _key(token_secret)
    digest = hashlib.sha256(canonical(receipt.wire())).digest()
    return SignedReceiptView(
        receipt=receipt,
        algorithm="BIP-340",
        pubkey=receipt_pubkey(token_secret),
        sha256=digest.hex(),
        signature=key.sign_schnorr(digest).hex(),
    )


def receipt_pubkey(token_secret: str) -> str:
    """32 bytes in hex; the same for all processes of one database."""
    return str(coincurve.PublicKeyXOnly.from_secret(_key(token_secret).secret).format().hex())


def canonical(receipt: dict[str, Any]) -> bytes:
    return json.dumps(receipt, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _key(token_secret: str) -> coincurve.PrivateKey:
    return coincurve.PrivateKey(hmac.new(token_secret.encode(), b"receipts", hashlib.sha256).digest())
