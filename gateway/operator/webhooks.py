"""Who is told of events, and telling again: the operator's word, with its line in the log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gateway import problems
from gateway.operator.log import Actor, Logged, acting
from gateway.problems import Problem
from gateway.webhooks.decisions import EVENTS, unknown_events
from ledger import sql
from ledger.database import Pool

_q = sql.load("gateway.webhooks")

ID = re.compile("[A-Za-z0-9_-]{1,64}")
HTTP_URL = re.compile(r"https?://[^\s/?#@]+([/?#]\S*)?")
SAID = 500


@dataclass(frozen=True, slots=True)
class Change:
    """None: it stays."""

    url: str | None = None
    events: list[str] | None = None
    enabled: bool | None = None

    def words(self) -> str:
        switched = "" if self.enabled is None else "switched on" if self.enabled else "switched off"
        return "; ".join(part for part in (self.url or "", ", ".join(self.events or ()), switched) if part)[:SAID]


def check(change: Change) -> None:
    """Pure. Raises Problem (422)."""
    if change.url is not None and HTTP_URL.fullmatch(change.url) is None:
        raise Problem(problems.INVALID_BODY, "/url: an http or https address, without a name and password in it.")
    if unknown := unknown_events(change.events or ()):
        raise Problem(problems.INVALID_BODY, f"/events: there is no {unknown[0]!r}; there are {', '.join(EVENTS)}.")


async def make_endpoint(pool: Pool, actor: Actor, endpoint_id: str, change: Change) -> Any:
    """Its row. The same id again is the same call again."""
    async with acting(pool, actor, "webhook", endpoint_id, change.words()) as act:
        await act.conn.execute(_q.insert_endpoint, endpoint_id, change.url, change.events)
        return await act.conn.fetchrow(_q.endpoint, endpoint_id)


async def change_endpoint(pool: Pool, actor: Actor, endpoint_id: str, change: Change) -> Any:
    """Its row. Raises Problem (404, 422)."""
    check(change)
    if not ID.fullmatch(endpoint_id):
        raise Problem(problems.WEBHOOK_NOT_FOUND)
    async with acting(pool, actor, "webhook", endpoint_id, change.words()) as act:
        row = await act.conn.fetchrow(_q.change_endpoint, endpoint_id, change.url, change.events, change.enabled)
        if row is None:
            raise Problem(problems.WEBHOOK_NOT_FOUND)
        return row


async def redeliver(pool: Pool, actor: Actor, delivery_id: str) -> Logged:
    """One that was given up, or arrived and is wanted again; one that is pending is under way. Raises Problem (404)."""
    if not ID.fullmatch(delivery_id):
        raise Problem(problems.WEBHOOK_NOT_FOUND)
    async with acting(pool, actor, "webhook_redelivery", delivery_id, "told again") as act:
        if await act.conn.fetchval(_q.delivery, delivery_id) is None:
            raise Problem(problems.WEBHOOK_NOT_FOUND)
        if await act.conn.fetchval(_q.redeliver, delivery_id) is None:
            act.outcome = "repeated"
    return act.logged
