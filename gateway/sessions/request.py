"""A request: its full estimate is held, the work runs in this process, then one transaction debits what it cost.

Every path ends in `end`, exactly once: the run that succeeded or failed, or the sweep, when the process died.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from gateway import problems
from gateway.jobs import slowing
from gateway.jobs.create import ClientAddress, PlannedInvoice, request_hash
from gateway.jobs.price import Priced
from gateway.problems import Problem
from gateway.sessions.decisions import Cost, Entry, Missing, SessionState, on_request, on_work_done
from gateway.sessions.deposit import enter, lock_session
from gateway.sessions.open import Payer, plan_missing
from gateway.work.worker import Done, WorkFailed
from ledger import book, grants, sql, transfers
from ledger.database import Connection, Pool, to_jsonb
from ledger.free_tier import Decision, Rules, Serve, decide_without_identity
from ledger.grants import Ask, address_subject
from ledger.money import sats_to_msat, whole_sats

_q = sql.load("gateway.sessions")
log = logging.getLogger(__name__)

LOST = WorkFailed("The gateway was stopped while the work ran. Send the request again.", by_worker=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, priced. `owner` and `lease_s`: of the process that will run it."""

    id: str
    session_id: str
    priced: Priced
    client_address: ClientAddress
    owner: str
    lease_s: float
    payer: Payer
    spend_sats: int | None = None
    """The most that may be charged to the session in all; None: all that it has."""

    @property
    def estimate_sats(self) -> int:
        return self.priced.estimate_sats

    @property
    def request_hash(self) -> bytes:
        return request_hash(self.priced.entry.name, self.priced.input)


@dataclass(frozen=True, slots=True)
class Uncovered:
    """Nothing was held. `topup` None: no further invoice may be opened for this address."""

    balance_sats: int
    missing_sats: int
    topup: PlannedInvoice | None


Ending: TypeAlias = Done | WorkFailed


async def begin(pool: Pool, asked: Asked, rules: Rules) -> Uncovered | None:
    """Decide and hold, in one transaction; parallel requests of a session stand in line for its lock, so that none
    spends a sat twice. None: it may run. Raises Problem."""
    async with pool.acquire() as conn, conn.transaction():
        session = await lock_session(conn, asked.session_id)
        refuse_inactive(session["state"] if session else SessionState.EXPIRED)
        if await conn.fetchval(_q.session_of_request, asked.id) is not None:
            raise still_running()  # the same Idempotency-Key a second time, while the first call was under way
        await _refuse_overspent(conn, asked)
        pubkey = session["pubkey"] if session else None
        await _refuse_slowed(conn, asked, pubkey)
        kept = await book.kept_balances(conn, [transfers.available(asked.session_id)])
        balance_sats = whole_sats(sum(kept.values()))
        decision = await _decide(conn, asked, pubkey, rules)
        hold = on_request(decision, asked.estimate_sats, balance_sats)
        if isinstance(hold, Missing):
            return Uncovered(balance_sats, hold.sats, await plan_missing(conn, asked.payer, hold.sats))
        await book.post(conn, transfers.hold(asked.id, asked.session_id, sats_to_msat(hold.sats)))
        await conn.execute(
            _q.insert_request,
            asked.id,
            asked.session_id,
            asked.priced.entry.name,
            asked.request_hash,
            pubkey,
            asked.client_address,
            decision.serve.value,
            asked.estimate_sats,
            decision.absorb_sats,
            hold.sats,
            asked.owner,
            asked.lease_s,
        )
        return None


def still_running() -> Problem:
    """Pure."""
    detail = "Its run has not ended yet. Try again in a few seconds."
    return Problem(problems.IDEMPOTENCY_KEY_IN_USE, detail, headers={"Retry-After": "2"})


def refuse_inactive(state: str) -> None:
    """Pure. Raises Problem."""
    if state == SessionState.AWAITING_DEPOSIT:
        raise Problem(problems.SESSION_NOT_ACTIVE, "Pay its deposit first.", {"state": state})
    if state != SessionState.ACTIVE:
        raise Problem(problems.SESSION_NOT_ACTIVE, f"It is {state}: open a new one.", {"state": state})


async def _refuse_overspent(conn: Connection, asked: Asked) -> None:
    """A token that was handed on with less than the session has. Raises Problem."""
    if asked.spend_sats is None:
        return
    spent_msat = await conn.fetchval(_q.spent_msat, asked.session_id)
    if spent_msat + sats_to_msat(asked.estimate_sats) > sats_to_msat(asked.spend_sats):
        raise Problem(problems.BALANCE_TOO_LOW, f"The token is worth {asked.spend_sats} sats in all.")


async def _refuse_slowed(conn: Connection, asked: Asked, pubkey: str | None) -> None:
    subjects = [address_subject(asked.client_address), *([pubkey] if pubkey else [])]
    paused = await slowing.pauses(conn, subjects)
    if paused:
        raise slowing.slowed(max(paused.values()))


async def _decide(conn: Connection, asked: Asked, pubkey: str | None, rules: Rules) -> Decision:
    if pubkey is None:
        return decide_without_identity(asked.estimate_sats)
    ask = Ask(reservation(asked.id), pubkey, asked.client_address, asked.estimate_sats, asked.request_hash)
    (decision,) = await grants.decide(conn, [ask], rules)
    return decision


def reservation(request_id: str) -> str:
    return f"request:{request_id}"


async def end(
    pool: Pool, request_id: str, owner: str | None, ending: Ending, rules: Rules, share_of_revenue: Decimal
) -> SessionState | None:
    """Debit what it cost, or nothing when it failed; the rest of what was held can be spent again.

    `owner`: the process that ran it; None: the sweep, which ends only what was lost. None: it has ended already;
    else the state of its session.
    """
    async with pool.acquire() as conn, conn.transaction():
        state, request = await _lock_running(conn, request_id, owner)
        if request is None:
            return None
        if isinstance(ending, Done):
            await _complete(conn, request, ending, rules, share_of_revenue)
        else:
            await _fail(conn, request, ending)
        await conn.execute(_q.touch, request["session_id"])
        return state


async def _lock_running(conn: Connection, request_id: str, owner: str | None) -> tuple[SessionState | None, Any | None]:
    """Session first (its state), then the request; None when it is not the caller's to end (any more)."""
    session = await lock_session(conn, await conn.fetchval(_q.session_of_request, request_id))
    if session is None:
        return None, None
    state = SessionState(session["state"])
    request = await conn.fetchrow(_q.lock_request, request_id)
    if request is None or request["state"] != "running":
        return state, None
    is_callers = request["is_lost"] if owner is None else request["owner"] == owner
    return state, request if is_callers else None


async def _complete(conn: Connection, request: Any, done: Done, rules: Rules, share_of_revenue: Decimal) -> None:
    """Failures, identity, days, accounts, the pool last: the order in which everybody locks."""
    cost = on_work_done(
        estimate_sats=request["estimate_sats"], absorb_sats=request["absorb_sats"], metered_sats=done.cost_sats
    )
    await slowing.count_success(conn, request)
    absorbed_sats = await _absorb(conn, request, cost, rules)
    charged_sats = cost.actual_sats - absorbed_sats
    if request["pubkey"] is not None and charged_sats:
        await grants.recognise_charge(conn, request["pubkey"], charged_sats)
    await _debit(conn, request, charged_sats, share_of_revenue, cost.overrun_sats)
    await conn.execute(
        _q.end_request,
        request["id"],
        "complete",
        to_jsonb(done.result),
        cost.actual_sats,
        absorbed_sats,
        charged_sats,
        None,
    )


async def _absorb(conn: Connection, request: Any, cost: Cost, rules: Rules) -> int:
    """What the pool pays: reserved before when free; when partial, whatever can be had now. Recorded at once."""
    if request["serve"] == Serve.GATE:
        return 0
    request_id, pubkey, hash_ = request["id"], request["pubkey"], bytes(request["request_hash"])
    absorbed_sats, reserved_sats = cost.grant_wanted_sats, request["absorb_sats"]
    if request["serve"] == Serve.PARTIAL:
        ask = Ask(reservation(request_id), pubkey, request["client_address"], request["estimate_sats"], hash_)
        absorbed_sats = reserved_sats = await grants.reserve_up_to(conn, ask, cost.grant_wanted_sats, rules)
    if reserved_sats:
        await grants.record_grant(conn, pubkey, hash_, absorbed_sats, reserved_sats, reservation(request_id))
    return absorbed_sats


async def _fail(conn: Connection, request: Any, failed: WorkFailed) -> None:
    """Work that fails before any output costs nothing: neither the balance nor the pool."""
    if failed.by_worker:
        await slowing.count_failure(conn, request)
    if request["serve"] == Serve.FREE:
        await grants.release_reservation(conn, reservation(request["id"]))
    await _debit(conn, request, 0)
    await conn.execute(_q.end_request, request["id"], "failed", None, None, 0, 0, failed.reason)


async def _debit(
    conn: Connection, request: Any, charged_sats: int, share_of_revenue: Decimal = Decimal(0), overrun_sats: int = 0
) -> None:
    request_id, session_id, charge_msat = request["id"], request["session_id"], sats_to_msat(charged_sats)
    held_msat, share_msat = sats_to_msat(request["held_sats"]), int(charge_msat * share_of_revenue)
    await book.post(
        conn,
        [
            *transfers.session_charge(request_id, session_id, held_msat, charge_msat, share_msat),
            *transfers.overrun(request_id, sats_to_msat(overrun_sats)),
        ],
    )
    await enter(conn, session_id, Entry.REQUEST, request_id, -charge_msat)
