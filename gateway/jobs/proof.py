"""Proof of payment: preimage and invoice together. Routing nodes learn the first, but not the second."""

from __future__ import annotations

import hashlib
import hmac

from ledger import sql
from ledger.database import Pool

_q = sql.load("gateway.jobs")


async def proves(pool: Pool, job_id: str, preimage_hex: str, payment_request: str) -> bool:
    """Whether both are of one settled invoice of this job. Compared in constant time, only after settlement."""
    preimage, asked = _preimage(preimage_hex), payment_request.strip().lower().removeprefix("lightning:")
    if preimage is None or not asked:
        return False
    opened = False
    for row in await pool.fetch(_q.payment_proof, job_id):
        same = hmac.compare_digest(preimage, bytes(row["preimage"])) & hmac.compare_digest(
            asked.encode(errors="surrogateescape"), row["payment_request"].lower().encode()
        )
        opened |= same
    return opened


async def job_of_payment(pool: Pool, preimage_hex: str, payment_request: str) -> str | None:
    """The job that was paid like that. The preimage names the invoice, and alone opens nothing."""
    preimage = _preimage(preimage_hex)
    if preimage is None:
        return None
    row = await pool.fetchrow(_q.invoice_of_hash, hashlib.sha256(preimage).digest())
    job_id = None if row is None else row["job_id"]
    return job_id if job_id is not None and await proves(pool, job_id, preimage_hex, payment_request) else None


def _preimage(text: str) -> bytes | None:
    try:
        preimage = bytes.fromhex(text)
    except ValueError:
        return None
    return preimage if len(preimage) == 32 else None
