"""Who may see a job: its token, its cookie on a page, or proof of payment. Compared in constant time."""

from __future__ import annotations

import contextlib
import hmac
import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_network
from typing import Any

from aiohttp import web

from gateway import problems
from gateway.api.bearer import bearer
from gateway.api.body import read_raw
from gateway.context import Gateway
from gateway.identity import Caller, identify, record_event, record_event_again
from gateway.ids import token_hash
from gateway.jobs.create import ClientAddress
from gateway.jobs.proof import proves
from gateway.jobs.view import Row
from gateway.problems import Problem
from gateway.refunds.claim import UseUp
from ledger import sql
from ledger.groups import Lookups

_sessions = sql.load("gateway.sessions")

JOB_ID = re.compile("[A-Za-z0-9_-]{22}")
BEARER = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True, slots=True)
class Opened:
    """A way into the job was shown. `owner`: by its buyer's identity, whose signed event is still to be used up."""

    job_id: str
    row: Row
    """What `open_job` read to decide on it."""
    owner: Caller | None = None

    def use_up(self, *, again: bool = False) -> UseUp | None:
        """What a signed call does in its transaction. `again`: an earlier try of this very call may have used it up."""
        if self.owner is None:
            return None
        record = record_event_again if again else record_event
        return lambda conn: record(conn, self.owner)


async def require_job(gateway: Gateway, request: web.Request, *, cookie: str | None = None) -> str:
    """The job's id, once a way into it was shown. Raises Problem (401, 404).

    A signed event is used up here, before the call: for a call that asks LND before it writes anything, a refusal
    in its own transaction would come too late.
    """
    opened = await open_job(gateway, request, cookie=cookie)
    if opened.owner is not None and request.method != "GET":
        async with gateway.pool.acquire() as conn, conn.transaction():
            await record_event(conn, opened.owner)
    return opened.job_id


async def seen_job(gateway: Gateway, request: web.Request, *, cookie: str | None = None) -> Row:
    """As `require_job`, for reads: the row of the block `jobs`, which is all that there is to see."""
    return (await open_job(gateway, request, cookie=cookie, rows=gateway.job_rows)).row


async def open_job(
    gateway: Gateway, request: web.Request, *, cookie: str | None = None, rows: Lookups | None = None
) -> Opened:
    """As `require_job`, for calls whose own transaction uses up the signed event. `rows`: what is read of the job."""
    job_id = request.match_info["id"]
    job = await (rows or gateway.job_keys).submit(job_id) if JOB_ID.fullmatch(job_id) else None
    if job is None:
        raise Problem(problems.JOB_NOT_FOUND, "Check the id, or look it up with your proof of payment.")
    token = bearer(request) or (request.cookies.get(cookie) if cookie else None)
    if token is not None and hmac.compare_digest(token_hash(token), bytes(job["token_hash"])):
        return Opened(job_id, job)
    owner = await _owner(gateway, request, job["pubkey"]) if job["pubkey"] is not None else None
    if owner is not None:
        return Opened(job_id, job, owner)
    if await _paid_for(gateway, request, job_id):
        return Opened(job_id, job)
    if token is None and "X-Payment-Preimage" not in request.headers:
        raise Problem(
            problems.CREDENTIAL_REQUIRED, "Send the job's token, or its payment's preimage and invoice.", headers=BEARER
        )
    raise Problem(problems.CREDENTIAL_INVALID, "The token or proof of payment is not this job's.", headers=BEARER)


async def require_session(gateway: Gateway, request: web.Request) -> Any:
    """The row (`id, state, pubkey, refund_key_hash`) of the session whose token was sent. Raises Problem (401)."""
    token = bearer(request)
    if token is None:
        raise Problem(problems.CREDENTIAL_REQUIRED, "Send the session's token as bearer token.", headers=BEARER)
    session = await gateway.pool.fetchrow(_sessions.of_token, token_hash(token))
    if session is None:
        raise Problem(problems.CREDENTIAL_INVALID, "This is not the token of a session.", headers=BEARER)
    return session


async def _owner(gateway: Gateway, request: web.Request, pubkey: str) -> Caller | None:
    """The identity that bought the job, if it is the one that calls."""
    caller = await identify(gateway, request, await read_raw(request))
    return caller if caller is not None and hmac.compare_digest(caller.pubkey, pubkey) else None


async def _paid_for(gateway: Gateway, request: web.Request, job_id: str) -> bool:
    headers = request.headers
    return await proves(
        gateway.pool, job_id, headers.get("X-Payment-Preimage", ""), headers.get("X-Payment-Request", "")
    )


def client_address(request: web.Request, trusted_proxies: tuple[str, ...]) -> ClientAddress:
    """The peer's address, or what a trusted proxy says it is. IPv6 counts by /64."""
    # A proxy may append to the header or add one of its own: the last entry of the last is the proxy's word.
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", [])).rpartition(",")[2].strip()
    return _client_address((request.remote or "127.0.0.1").partition("%")[0], forwarded, trusted_proxies)


@lru_cache(maxsize=4096)
def _client_address(peer: str, forwarded: str, trusted_proxies: tuple[str, ...]) -> ClientAddress:
    address = _unmapped(ip_address(peer))
    if any(address in ip_network(proxy, strict=False) for proxy in trusted_proxies):
        with contextlib.suppress(ValueError):
            address = _unmapped(ip_address(forwarded))
    if isinstance(address, IPv6Address):
        return IPv6Interface(str(IPv6Interface(f"{address}/64").network))
    return IPv4Interface(f"{address}/32")


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
