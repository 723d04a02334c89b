"""A form that is sent twice counts once: what its hidden key made is found again."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from gateway import idempotency, problems
from gateway.context import Gateway
from gateway.idempotency import Claim
from gateway.problems import Problem

PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Between looks at a form that is being handled: a browser shows the answer to a second click, not to the first."""


def new_key() -> str:
    return secrets.token_urlsafe(24)


async def once(gateway: Gateway, scope: str, key: str, body: bytes, make: Callable[[Claim], Awaitable[object]]) -> str:
    """The id of what `make` made for this form, now or when it was sent before. A refusal leaves the key free.

    Raises what `make` raises, and Problem: the key was used for another `body`, is unusable, or in use.
    """
    claimed = await idempotency.claim(
        gateway.pool,
        scope=scope,
        key=idempotency.checked_key(key) or "",
        body=body,
        lease_s=gateway.settings.lease_s,
    )
    if isinstance(claimed, idempotency.Replay):
        return claimed.resource_id
    try:
        await make(claimed)
        await idempotency.finish(gateway.pool, claimed, 303, {"id": claimed.resource_id})
    except BaseException:
        await asyncio.shield(idempotency.release(gateway.pool, claimed))
        raise
    return claimed.resource_id


async def once_awaited(
    gateway: Gateway, scope: str, key: str, body: bytes, make: Callable[[Claim], Awaitable[object]]
) -> str:
    """As `once`; while the same form is being handled, its end is waited for, some seconds at most."""
    for pause_s in PAUSES_S:
        try:
            return await once(gateway, scope, key, body, make)
        except Problem as problem:
            if problem.type is not problems.IDEMPOTENCY_KEY_IN_USE:
                raise
        await asyncio.sleep(pause_s)
    return await once(gateway, scope, key, body, make)
