"""What every handler and task shares: one object, made once at start."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from gateway.api.models import JobView
from gateway.catalogue import Catalogue
from gateway.fiat.keep import FiatRate
from gateway.jobs.create import Created, Creation, InvoiceLimits, Sale, create_group, sell_plain, store_opened
from gateway.jobs.finish import Run, begin_runs
from gateway.jobs.finish_group import DoneWork, complete_group
from gateway.jobs.open_invoices import OpenInvoices
from gateway.jobs.settle_group import Paid, PlainInvoices, settle_group
from gateway.live import Hub
from gateway.metrics import Metrics
from gateway.refunds.destination import DestinationRules
from gateway.refunds.fees import FeeLimit
from gateway.sessions.runs import Runs
from gateway.settings import Settings
from gateway.settlement.heard import Heard
from gateway.work.worker import Worker
from ledger import sql
from ledger.database import Connection, Pool
from ledger.free_tier import Rules
from ledger.groups import Groups, Lookups
from lightning.node import Node
from lightning.types import Invoice

_q = sql.load("gateway.jobs")


@dataclass(slots=True)
class Gateway:
    settings: Settings
    catalogue: Catalogue
    pool: Pool
    node: Node
    session: aiohttp.ClientSession
    workers: Mapping[str, Worker]
    installation_id: str
    metrics: Metrics = field(default_factory=Metrics)
    hub: Hub = field(default_factory=Hub)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    sweep_wake: asyncio.Event = field(default_factory=asyncio.Event)
    refund_wake: asyncio.Event = field(default_factory=asyncio.Event)
    session_wake: asyncio.Event = field(default_factory=asyncio.Event)
    on_file_wake: asyncio.Event = field(default_factory=asyncio.Event)
    open_invoices: OpenInvoices = field(default_factory=OpenInvoices)
    operator_login: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Tries of the operator key, one at a time: a flood of them holds one connection, not all."""
    rules: Rules = field(init=False)
    fiat: FiatRate = field(init=False)
    sales: Groups[Creation, Sale] = field(init=False)
    plain_sales: Groups[Creation, Created | None] = field(init=False)
    settlements: Groups[Paid, bool] = field(init=False)
    plain_invoices: PlainInvoices = field(default_factory=PlainInvoices)
    heard: Heard = field(default_factory=Heard)
    completions: Groups[DoneWork, bool] = field(init=False)
    openings: Groups[Invoice, JobView] = field(init=False)
    beginnings: Groups[str, Run | None] = field(init=False)
    job_rows: Lookups = field(init=False)
    """What a reader of a job sees."""
    job_keys: Lookups = field(init=False)
    invoice_rows: Lookups = field(init=False)
    """Whose an invoice is, by its payment hash."""
    session_runs: Runs = field(init=False)

    def __post_init__(self) -> None:
        self.rules = rules = self.catalogue.gate_rules
        self.fiat = FiatRate.of(self.settings)

        async def create(conn: Connection, creations: Sequence[Creation]) -> list[Sale]:
            return await create_group(conn, creations, rules)

        self.sales = Groups(self.pool, create)
        self.plain_sales = Groups(self.pool, sell_plain, one_statement=True)
        self.settlements = Groups(self.pool, settle_group, one_statement=True)
        self.completions = Groups(self.pool, complete_group, one_statement=True)
        self.openings = Groups(self.pool, store_opened, one_statement=True)
        self.beginnings = Groups(self.pool, begin_runs, one_statement=True)
        self.job_rows = Lookups(self.pool, _q.jobs, "id")
        self.job_keys = Lookups(self.pool, _q.keys_of_jobs, "id")
        self.invoice_rows = Lookups(self.pool, _q.invoices_of_hashes, "payment_hash")
        self.session_runs = Runs(self.settings.concurrent_works)

    @property
    def token_secret(self) -> str:
        return self.settings.token_secret.get_secret_value()

    @property
    def webhook_secret(self) -> str:
        return self.settings.webhook_secret.get_secret_value()

    @property
    def invoice_limits(self) -> InvoiceLimits:
        return InvoiceLimits(self.settings.invoice_expiry_s, self.settings.open_invoices_per_address)

    @property
    def fee_limit(self) -> FeeLimit:
        settings = self.settings
        return FeeLimit(
            settings.refund_fee_limit_sats,
            settings.refund_fee_limit_percent,
            settings.refund_fee_budget_sats_per_day,
            settings.refund_fee_budget_sats_per_destination,
        )

    @property
    def destination_rules(self) -> DestinationRules:
        return DestinationRules(self.settings.refund_cltv_limit, self.settings.lnurl_allow_hosts)

    def memo(self, title: str) -> str:
        """What the payer's wallet shows; the id tells which database an invoice belongs to."""
        return f"{title} (boltworks {self.installation_id})"


GATEWAY: web.AppKey[Gateway] = web.AppKey("gateway", Gateway)
