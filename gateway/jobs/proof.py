"""Proof of payment: preimage and invoice together. Routing nodes learn the first, but not the second."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.jobs.view import Row
from ledger import sql
from ledger.database import Pool

_q = sql.load("gateway.jobs")


async def proves(pool: Pool, job_id: str, preimage_hex: str, payment_request: str) -> bool:
    """Whether both are of one settled invoice of this job. Compared in constant time, only after settlement."""
    return _fits(await pool.fetch(_q.payment_proof, job_id), preimage_hex, payment_request)


@dataclass(frozen=True, slots=True)
class PaidFor:
    """What a payment bought: a job, or a session's balance."""

    id: str
    is_session: bool


async def paid_for(pool: Pool, preimage_hex: str, payment_request: str) -> PaidFor | None:
    """The preimage names the invoice, and alone opens nothing. An L402 token's invoice may be known to others who asked
    from the same address: what it paid for opens by its token."""
    preimage = _preimage(preimage_hex)
    if preimage is None:
        return None
    row = await pool.fetchrow(_q.proof_of_hash, hashlib.sha256(preimage).digest())
    if row is None or not _fits([row], preimage_hex, payment_request):
        return None
    return PaidFor(row["job_id"] or row["session_id"], row["job_id"] is None)


def _fits(rows: Iterable[Row], preimage_hex: str, payment_request: str) -> bool:
    """Pure."""
    preimage, asked = _preimage(preimage_hex), payment_request.strip().lower().removeprefix("lightning:")
    if preimage is None or not asked:
        return False
    opened = False
    for row in rows:
        same = hmac.compare_digest(preimage, bytes(row["preimage"])) & hmac.compare_digest(
            asked.encode(errors="surrogateescape"), row["payment_request"].lower().encode()
        )
        opened |= same
    return opened


def _preimage(text: str) -> bytes | None:
    try:
        preimage = bytes.fromhex(text)
    except ValueError:
        return None
    return preimage if len(preimage) == 32 else None
