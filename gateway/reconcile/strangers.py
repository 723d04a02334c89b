"""Invoices that the node knows with this database's id in their memo, and the database does not.

An invoice is stored before the node is asked for it. So one that is missing here means that an older backup of
the database was restored, and that what was paid since is not remembered.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ledger import sql
from ledger.database import Pool
from lightning.node import Node
from lightning.types import Invoice

_q = sql.load("gateway.reconcile")

PAGE = 1000
LOOK_AGAIN_S = 60.0
NODE_CLOCK = timedelta(seconds=1)
"""LND tells times in whole seconds, rounded down."""


def is_ours(invoice: Invoice, installation_id: str) -> bool:
    """Its memo carries this database's id (`Gateway.memo`)."""
    return invoice.memo.endswith(f"(boltworks {installation_id})")


@dataclass(slots=True)
class Strangers:
    """Reads on from the last invoice that was seen, so that a repeated look costs one short page."""

    pool: Pool
    node: Node
    found: list[bytes] = field(default_factory=list)
    newest: datetime | None = None
    """When the node made the youngest of them: what the database remembers since then is its own."""
    _node_pubkey: str = ""
    _read_to: int = 0
    _looked_at: float | None = None
    _one_reads: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def look(self, max_age_s: float = 0.0) -> int:
        """How many there are; what was read less than `max_age_s` ago counts. Raises NodeUnavailable."""
        oldest = time.monotonic() - max_age_s
        async with self._one_reads:
            # Who waited for another's look has that one, if it began late enough.
            if self._looked_at is None or self._looked_at < oldest:
                began = time.monotonic()
                await self._read_on()
                self._looked_at = began
        return len(self.found)

    async def _read_on(self) -> None:
        info = await self.node.get_info()
        if info.pubkey != self._node_pubkey:
            self.found, self.newest, self._node_pubkey, self._read_to = [], None, info.pubkey, 0
        installation_id = await self.pool.fetchval(_q.installation_id)
        page: dict[bytes, Invoice] = {}
        async for invoice in self.node.list_invoices(after_add_index=self._read_to):
            self._read_to = max(self._read_to, invoice.add_index)
            if is_ours(invoice, installation_id):
                page[invoice.payment_hash] = invoice
            if len(page) >= PAGE:
                await self._keep_missing(page)
                page = {}
        await self._keep_missing(page)

    async def _keep_missing(self, page: dict[bytes, Invoice]) -> None:
        for row in await self.pool.fetch(_q.not_in_database, list(page)) if page else []:
            invoice = page[bytes(row["hash"])]
            self.found.append(invoice.payment_hash)
            made_by = invoice.created_at + NODE_CLOCK
            self.newest = max(self.newest or made_by, made_by)
