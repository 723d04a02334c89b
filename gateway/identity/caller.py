"""The identity behind a request: `Authorization: Nostr <base64 event>` (NIP-98) or `Bearer bw_id_…`."""

from __future__ import annotations

import base64
import contextlib
import time
from dataclasses import dataclass

from aiohttp import web

from gateway import problems
from gateway.api.bearer import bearer
from gateway.api.body import parse_json
from gateway.context import Gateway
from gateway.identity.event import Event, InvalidEvent, read_event
from gateway.identity.login import TOKEN_PREFIX, pubkey_of_token
from gateway.identity.rules import check_http_auth
from gateway.problems import Problem
from ledger import sql
from ledger.database import Connection

_q = sql.load("gateway.identity")

CHALLENGE = {"WWW-Authenticate": "Nostr, Bearer"}


@dataclass(frozen=True, slots=True)
class Caller:
    """`event_id`: of the NIP-98 event, which is accepted once; None with a token."""

    pubkey: str
    event_id: str | None = None


async def identify(gateway: Gateway, request: web.Request, raw: bytes) -> Caller | None:
    """Who is asking, `raw` being the request's body; None when no identity is claimed. Writes nothing.

    A bearer token of another kind (a job's) claims none. Raises Problem (401).
    """
    token = bearer(request)
    if token is not None:
        return await _by_token(gateway, token) if token.startswith(TOKEN_PREFIX) else None
    scheme, _, encoded = request.headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() != "nostr":
        return None
    try:
        event = decode_event(encoded.strip())
        url = gateway.settings.base_url + target(request)
        check_http_auth(event, url=url, method=request.method, body=raw, now_s=int(time.time()))
    except InvalidEvent as error:
        raise Problem(problems.IDENTITY_INVALID, str(error), headers=CHALLENGE) from None
    return Caller(event.pubkey, event.id)


async def record_event(conn: Connection, caller: Caller | None) -> None:
    """In the transaction of the call: its event is used up with it. Nothing to do without one.

    Raises Problem (401 `nostr_event_replayed`) when the event was used before.
    """
    if caller is None or caller.event_id is None:
        return
    if await conn.fetchval(_q.record_event, caller.event_id) is None:
        raise Problem(problems.NOSTR_EVENT_REPLAYED, "Sign a new event for each call.", headers=CHALLENGE)


async def record_event_again(conn: Connection, caller: Caller | None) -> None:
    """For the same call once more: it may come with the event that it came with first, or with a new one."""
    with contextlib.suppress(Problem):
        await record_event(conn, caller)


async def _by_token(gateway: Gateway, token: str) -> Caller:
    pubkey = await pubkey_of_token(gateway.pool, token)
    if pubkey is None:
        raise Problem(problems.IDENTITY_INVALID, "The token is unknown or over: log in again.", headers=CHALLENGE)
    return Caller(pubkey)


def decode_event(encoded: str) -> Event:
    """The event of a `Nostr` header. Raises InvalidEvent. Pure."""
    try:
        raw = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise InvalidEvent("After Nostr must follow the base64 of a signed event.") from None
    try:
        value = parse_json(raw)
    except Problem:
        raise InvalidEvent("The event in the header is not JSON that we can read.") from None
    return read_event(value)


def target(request: web.Request) -> str:
    """Path and query as they were sent, not decoded."""
    return request.raw_path if request.raw_path.startswith("/") else request.path_qs
