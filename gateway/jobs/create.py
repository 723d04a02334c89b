"""A job is bought: priced, decided, stored with its planned invoice, then invoiced at LND.

Intent first: job, invoice and preimage are committed before LND is asked. Whatever dies after that, the same
`Idempotency-Key` resumes the same job, and the sweep ends one that nobody resumes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any, TypeAlias

from gateway import problems
from gateway.api.models import JobView
from gateway.execution.queue import enqueue
from gateway.ids import token_hash
from gateway.jobs import slowing
from gateway.jobs.decisions import JobState, Purpose, Stage
from gateway.jobs.view import Row, job_view
from gateway.problems import Problem
from ledger import grants, sql
from ledger.database import Connection, Pool, to_jsonb
from ledger.free_tier import Decision, Rules, Serve, decide_without_identity
from ledger.grants import Ask, address_subject
from ledger.groups import Groups
from ledger.money import Msat, sats_to_msat
from lightning.node import Node
from lightning.types import Invoice, InvoiceConflict

_q = sql.load("gateway.jobs")
_groups = sql.load("gateway.jobs", "groups.sql")
_evaluation = sql.load("gateway.jobs", "evaluation.sql")

ClientAddress: TypeAlias = IPv4Interface | IPv6Interface


def request_hash(work: str, work_input: Mapping[str, Any]) -> bytes:
    """What was asked for, as the grants' audit names it. Pure."""
    asked = json.dumps([work, work_input], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(asked.encode()).digest()


@dataclass(frozen=True, slots=True)
class NewJob:
    id: str
    token: str
    work: str
    input: Mapping[str, Any]
    estimate_sats: int
    client_address: ClientAddress
    refund_to: str | None
    memo: str
    pubkey: str | None = None
    evaluation_fee_sats: int | None = None
    """What a look at the input costs before its price is fixed; None: the price is fixed."""

    @property
    def request_hash(self) -> bytes:
        """What was asked for, as the grants' audit names it."""
        return request_hash(self.work, self.input)


@dataclass(frozen=True, slots=True)
class InvoiceLimits:
    expiry_s: int
    open_per_address: int


@dataclass(frozen=True, slots=True)
class PlannedInvoice:
    preimage: bytes
    amount_msat: Msat
    memo: str
    expiry_s: int

    @property
    def payment_hash(self) -> bytes:
        return hashlib.sha256(self.preimage).digest()


MIN_TIME_LEFT_S = 10
"""A stored preimage is used again only with this much left of its planned time."""


def planned_again(row: Row) -> PlannedInvoice:
    """A planned invoice as it was stored: `preimage`, `amount_msat`, `memo`, and the `expiry_s` that are left."""
    return PlannedInvoice(bytes(row["preimage"]), Msat(row["amount_msat"]), row["memo"], row["expiry_s"])


def plan_invoice(amount_sats: int, memo: str, expiry_s: int) -> PlannedInvoice:
    return PlannedInvoice(secrets.token_bytes(32), sats_to_msat(amount_sats), memo, expiry_s)


@dataclass(frozen=True, slots=True)
class Also:
    """Something more for the same transaction; a Problem that it raises refuses this sale alone.

    `locks` names the row that it locks: a group takes them in order, so that two groups can not deadlock.
    """

    locks: str
    run: Callable[[Connection], Awaitable[None]]

    async def run_again(self, conn: Connection) -> None:
        """For a sale that stands already: the same event again is this very call; a new one is used up now."""
        with contextlib.suppress(Problem):
            await self.run(conn)


@dataclass(frozen=True, slots=True)
class Creation:
    """One sale, as it waits for its group."""

    job: NewJob
    limits: InvoiceLimits
    also: Also | None = None

    @property
    def locks(self) -> str:
        return self.also.locks if self.also else ""

    @property
    def ask(self) -> Ask | None:
        job = self.job
        if job.pubkey is None:
            return None
        if job.evaluation_fee_sats is None:
            return Ask(f"job:{job.id}", job.pubkey, job.client_address, job.estimate_sats, job.request_hash)
        fee, cap = job.evaluation_fee_sats, job.estimate_sats
        return Ask(f"eval:{job.id}", job.pubkey, job.client_address, fee, job.request_hash, fee_of_cap_sats=cap)

    @property
    def asked_sats(self) -> int:
        """What the gate is asked about now: the fee of the evaluation, if there is one, else the price."""
        fee_sats = self.job.evaluation_fee_sats
        return self.job.estimate_sats if fee_sats is None else fee_sats

    @property
    def is_plain(self) -> bool:
        """Its buyer pays all of it, now, and nothing else goes with it: no gate decides."""
        return self.job.pubkey is None and self.also is None and self.job.evaluation_fee_sats is None

    @property
    def purpose(self) -> Purpose:
        return Purpose.WORK if self.job.evaluation_fee_sats is None else Purpose.EVALUATION


@dataclass(frozen=True, slots=True)
class Created:
    """Committed. `planned` None: nothing is to be paid, or (`stood`) the job was there already."""

    planned: PlannedInvoice | None
    stood: bool = False


Sale: TypeAlias = Created | problems.Problem


async def create_group(conn: Connection, creations: Sequence[Creation], rules: Rules) -> list[Sale]:
    """All sales of a group in the caller's transaction: refuse, decide, store jobs and planned invoices, enqueue."""
    answers: dict[int, Sale] = {}
    standing, room, paused = await _look_round(conn, creations)
    for place, creation in sorted(enumerate(creations), key=lambda placed: placed[1].locks):
        if creation.job.id in standing:
            answers[place] = Created(None, stood=True)
        elif refused := await _refusal(conn, creation, paused, room):
            answers[place] = refused
    await _find_late(conn, creations, answers)
    going = [(place, c) for place, c in enumerate(creations) if place not in answers]
    decisions = await _decide(conn, [c for _, c in going], rules)
    stored = [_decided(creation, decision) for (_, creation), decision in zip(going, decisions, strict=True)]
    answers.update((place, Created(sale.planned)) for (place, _), sale in zip(going, stored, strict=True))
    await _store(conn, stored)
    return [answers[place] for place in range(len(creations))]


async def sell_plain(conn: Connection, creations: Sequence[Creation]) -> list[Created | None]:
    """Plain sales in one statement, which is a transaction by itself. None: left out, nothing was written for it.

    Left out is what stands already, whose address has no room left, or whose work failed lately: `create_group` looks
    at it closely. Room is soft, as there.
    """
    if not all(creation.is_plain for creation in creations):
        raise ValueError("a gate decides on one of these, or something goes with it")
    decided = [_decided(creation, decide_without_identity(creation.asked_sats)) for creation in creations]
    cap = max(creation.limits.open_per_address for creation in creations)
    sold = {row["id"] for row in await conn.fetch(_groups.sell, *_sale_columns(decided), cap)}
    return [Created(sale.planned) if sale.creation.job.id in sold else None for sale in decided]


@dataclass(frozen=True, slots=True)
class Decided:
    """A sale as it is stored. `planned` None: nothing is to be paid."""

    creation: Creation
    decision: Decision
    planned: PlannedInvoice | None


def _decided(creation: Creation, decision: Decision) -> Decided:
    planned = None
    if decision.charge_sats:
        planned = plan_invoice(decision.charge_sats, creation.job.memo, creation.limits.expiry_s)
    return Decided(creation, decision, planned)


async def _find_late(conn: Connection, creations: Sequence[Creation], answers: dict[int, Sale]) -> None:
    """A refusal may have waited for this very sale, whose COMMIT was under way (its event is used up: by itself)."""
    refused = {creations[place].job.id: place for place, sale in answers.items() if isinstance(sale, problems.Problem)}
    if refused:
        for row in await conn.fetch(_q.existing_jobs, list(refused)):
            answers[refused[row["id"]]] = Created(None, stood=True)


def too_many_unpaid(limits: InvoiceLimits) -> problems.Problem:
    """The address has as many open invoices as one may have."""
    detail = f"{limits.open_per_address} invoices to your address are unpaid. Pay one, cancel one, or wait."
    return problems.Problem(problems.TOO_MANY_INVOICES, detail, headers={"Retry-After": "60"})


async def _look_round(
    conn: Connection, creations: Sequence[Creation]
) -> tuple[set[str], dict[ClientAddress, int], dict[str, int]]:
    """Ids that stand already; how many more invoices each address may open; how long whose work failed has to wait.

    Room is soft: processes that race may pass the cap by their own number.
    """
    cap = max(c.limits.open_per_address for c in creations)
    addresses = list({c.job.client_address for c in creations})
    subjects = [s for c in creations for s in (address_subject(c.job.client_address), c.job.pubkey) if s]
    row = await conn.fetchrow(_q.before_sales, [c.job.id for c in creations], addresses, cap, subjects)
    if row is None:
        raise RuntimeError("an aggregate answers one row")
    room = {address: cap - open_ for address, open_ in zip(addresses, row["open"], strict=True)}
    failed = zip(row["subjects"] or (), row["failures"] or (), row["since_s"] or (), strict=True)
    return set(row["standing"] or ()), room, slowing.waits(failed)


async def _refusal(
    conn: Connection, creation: Creation, paused: Mapping[str, int], room: dict[ClientAddress, int]
) -> problems.Problem | None:
    job = creation.job
    wait_s = max(paused.get(address_subject(job.client_address), 0), paused.get(job.pubkey or "", 0))
    if wait_s:
        return slowing.slowed(wait_s)
    if room[job.client_address] <= 0:
        return too_many_unpaid(creation.limits)
    if creation.also is not None:
        try:
            await creation.also.run(conn)
        except problems.Problem as problem:
            return problem
    room[job.client_address] -= 1
    return None


async def _decide(conn: Connection, creations: Sequence[Creation], rules: Rules) -> list[Decision]:
    asks = [ask for c in creations if (ask := c.ask) is not None]
    decided = iter(await grants.decide(conn, asks, rules))
    return [decide_without_identity(c.asked_sats) if c.ask is None else next(decided) for c in creations]


async def _store(conn: Connection, stored: Sequence[Decided]) -> None:
    if not stored:
        return
    await conn.fetch(_groups.sell, *_sale_columns(stored), None)
    evaluations = [sale for sale in stored if sale.creation.purpose is Purpose.EVALUATION]
    await _store_evaluations(conn, evaluations)
    for sale in stored:
        if sale.decision.charge_sats == 0:
            await enqueue(conn, sale.creation.job.id, _STAGES[sale.creation.purpose])


def _sale_columns(stored: Sequence[Decided]) -> tuple[list[Any], ...]:
    """As `sell` takes them, but for its cap. Pure."""
    jobs = [sale.creation.job for sale in stored]
    subjects = [address_subject(job.client_address) for job in jobs]
    shares = [_share(sale.creation, sale.decision) for sale in stored]
    invoices = [
        (sale.creation.job.id, sale.creation.job.client_address, sale.planned, sale.creation.purpose)
        for sale in stored
        if sale.planned
    ]
    return (
        [job.id for job in jobs],
        [job.work for job in jobs],
        [to_jsonb(job.input) for job in jobs],
        [_first_state(sale.creation.purpose, sale.decision).value for sale in stored],
        [share.serve.value for share in shares],
        [job.estimate_sats for job in jobs],
        [share.absorb_sats for share in shares],
        [share.charge_sats for share in shares],
        [token_hash(job.token) for job in jobs],
        subjects,
        [job.refund_to for job in jobs],
        [job.pubkey for job in jobs],
        [job.request_hash if job.pubkey else None for job in jobs],
        *_columns(invoices),
        subjects,
    )


_STAGES = {Purpose.WORK: Stage.WORK, Purpose.EVALUATION: Stage.EVALUATION}
_FIRST_STATES = {
    (Purpose.WORK, True): JobState.EXECUTING,
    (Purpose.WORK, False): JobState.AWAITING_WORK_PAYMENT,
    (Purpose.EVALUATION, True): JobState.EVALUATING,
    (Purpose.EVALUATION, False): JobState.AWAITING_EVAL_PAYMENT,
}


def _first_state(purpose: Purpose, decision: Decision) -> JobState:
    """What costs the user nothing begins at once."""
    return _FIRST_STATES[purpose, decision.charge_sats == 0]


def _share(creation: Creation, decision: Decision) -> Decision:
    """Who pays for the work, as far as it is known: before the evaluation nobody has decided that the pool does."""
    if creation.purpose is Purpose.WORK:
        return decision
    return Decision(Serve.GATE, 0, creation.job.estimate_sats, "to_be_evaluated")


async def _store_evaluations(conn: Connection, decided: Sequence[Decided]) -> None:
    if decided:
        await conn.execute(
            _evaluation.insert_evaluations,
            [sale.creation.job.id for sale in decided],
            [sale.creation.asked_sats for sale in decided],
            [sale.decision.serve is Serve.FREE for sale in decided],
            [sale.creation.job.estimate_sats for sale in decided],
        )


ToPay: TypeAlias = tuple[str, ClientAddress, PlannedInvoice, Purpose]
"""A planned invoice of a job: `(job id, client address, invoice, purpose)`."""


async def store_invoices(conn: Connection, planned: Sequence[ToPay]) -> None:
    """Of jobs that stand already; nothing to do for none."""
    if planned:
        await conn.execute(_q.insert_invoices, *_columns(planned))


def _columns(planned: Sequence[ToPay]) -> tuple[list[Any], ...]:
    """As `insert_invoices` takes them. Pure."""
    return (
        [invoice.payment_hash for _, _, invoice, _ in planned],
        [invoice.preimage for _, _, invoice, _ in planned],
        [job_id for job_id, _, _, _ in planned],
        [address_subject(address) for _, address, _, _ in planned],
        [invoice.amount_msat for _, _, invoice, _ in planned],
        [invoice.memo for _, _, invoice, _ in planned],
        [invoice.expiry_s for _, _, invoice, _ in planned],
        [purpose.value for _, _, _, purpose in planned],
    )


async def resume_invoice(conn: Connection, job: NewJob, limits: InvoiceLimits) -> PlannedInvoice | None:
    """The planned invoice of a job whose creation was interrupted; None when LND's answer was stored already.

    A stored preimage is used only before its planned expiry; after that the job gets a new invoice.
    """
    row = await conn.fetchrow(_q.planned_invoice, job.id)
    if row is not None and row["state"] != "planned":
        return None
    if row is not None and row["expiry_s"] >= MIN_TIME_LEFT_S:
        return planned_again(row)
    due = await conn.fetchrow(_q.due, job.id)
    if due is None:
        return None
    planned = plan_invoice(due["amount_sats"], job.memo, limits.expiry_s)
    await store_invoices(conn, [(job.id, job.client_address, planned, Purpose(due["purpose"]))])
    return planned


async def add_at_node(node: Node, planned: PlannedInvoice) -> Invoice:
    """Ask LND for the invoice; the same preimage is the same invoice. Raises NodeUnavailable, InvoiceConflict (500)."""
    invoice = await node.add_invoice(planned.preimage, planned.amount_msat, planned.memo, planned.expiry_s)
    if invoice.amount_msat != planned.amount_msat:
        raise InvoiceConflict("LND answered with another amount than was asked for")
    return invoice


async def open_unattached(pool: Pool, node: Node, planned: PlannedInvoice) -> Invoice:
    """As `open_at_node`, for an invoice that is no job's: a donation, a session's."""
    invoice = await add_at_node(node, planned)
    await pool.execute(_q.record_open, planned.payment_hash, invoice.payment_request, invoice.expires_at)
    return invoice


async def open_at_node(pool: Pool, node: Node, planned: PlannedInvoice) -> JobView:
    """Ask LND for the job's invoice and store its answer. Raises NodeUnavailable, InvoiceConflict (a fault: 500)."""
    invoice = await add_at_node(node, planned)
    async with pool.acquire() as conn:
        (view,) = await store_opened(conn, [invoice])
    return view


async def open_with_others(openings: Groups[Invoice, JobView], node: Node, planned: PlannedInvoice) -> JobView:
    """As `open_at_node`; LND's answer is stored together with those that come at the same time."""
    return await openings.submit(await add_at_node(node, planned))


async def store_opened(conn: Connection, invoices: Sequence[Invoice]) -> list[JobView]:
    """What LND answered for invoices of jobs, in one statement; the jobs, which owe nothing yet."""
    ordered = sorted(invoices, key=lambda invoice: invoice.payment_hash)
    rows = await conn.fetch(
        _q.open_invoices,
        [invoice.payment_hash for invoice in ordered],
        [invoice.payment_request for invoice in ordered],
        [invoice.expires_at for invoice in ordered],
    )
    views = {row["invoice_hash"]: job_view(row) for row in rows}
    if len(views) != len(invoices):
        raise RuntimeError("a planned invoice vanished: rows are never deleted")
    return [views[invoice.payment_hash.hex()] for invoice in invoices]
