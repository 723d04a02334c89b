"""What the operator does from a page. What moves or promises money, or changes an identity, is asked about first.

A form is sent twice to the same address: the first time it comes back as a question that repeats every word of it, the
second time (`sure`) it is done. Without JavaScript, and nothing is kept in between.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from gateway import problems
from gateway.api.system import pool_view
from gateway.context import GATEWAY, Gateway
from gateway.ids import new_id
from gateway.operator import books, identities
from gateway.operator.identities import Change, set_identity
from gateway.operator.pool import topup
from gateway.operator.refunds import decide_frozen, find_refund, frozen_attempt, retry_refund, why_not
from gateway.operator.webhooks import redeliver
from gateway.pages.operator.access import FORM, actor_of, show, to
from gateway.pages.operator.said import after, said
from gateway.pages.rendering import sats
from gateway.problems import Problem
from gateway.reconcile.accept import WasNotPaid, WasPaid
from ledger import grants, sql
from ledger.money import MAX_SATS

_q = sql.load("gateway.pages.operator", "operator.sql")

ONE_FORM = re.compile("[A-Za-z0-9_-]{22}")


@dataclass(frozen=True, slots=True)
class Question:
    """What is about to be done, in words; `fields` come back with the answer."""

    title: str
    facts: tuple[tuple[str, str], ...]
    warning: str
    button: str
    back: str
    fields: dict[str, str]


def ask(request: web.Request, question: Question) -> web.Response:
    return show(request, "confirm.html", {"question": question})


async def pool_page(request: web.Request) -> web.Response:
    """The pool, and a form that gives it money."""
    return show(request, "pool.html", {"pool": await pool_view(request.app[GATEWAY]), "said": await said(request)})


async def pool_topup(request: web.Request) -> web.Response:
    """Capital to pool. The question carries an id of its own: sent twice, it is booked once. Raises Problem."""
    gateway, form = request.app[GATEWAY], request[FORM]
    amount_sats = whole_amount(form.get("amount_sats", ""))
    if "sure" not in form:
        pool = await pool_view(gateway)
        question = Question(
            "Top up the free pool?",
            (
                ("Amount", sats(amount_sats)),
                ("It can give now", sats(pool.balance_sats)),
                ("It can give then", sats(pool.balance_sats + amount_sats)),
            ),
            "It is booked at once, from your capital. There is no way to take it back: the pool gives it away.",
            f"Give {sats(amount_sats)}",
            "/operator/pool",
            {"amount_sats": str(amount_sats), "once": new_id()},
        )
        return ask(request, question)
    once = form.get("once", "")
    if not ONE_FORM.fullmatch(once):
        raise Problem(problems.INVALID_REQUEST, "Open the page again and send its form from there.")
    logged = await topup(gateway.pool, actor_of(request), amount_sats, f"page:{once}")
    return to(after("/operator/pool", logged))


def whole_amount(typed: str) -> int:
    """Sats as people type them: `10000`, `10,000`, `10 000`. Pure. Raises Problem (422)."""
    digits = re.sub("[, ]", "", typed.strip())
    if not re.fullmatch("[0-9]{1,16}", digits) or not 1 <= int(digits) <= MAX_SATS:
        raise Problem(problems.INVALID_BODY, f"The amount is a whole number of sats, from 1 to {MAX_SATS:,}.")
    return int(digits)


async def refund_retry(request: web.Request) -> web.Response:
    """Raises Problem (404, 409)."""
    gateway, refund_id = request.app[GATEWAY], request.match_info["id"]
    refund = await find_refund(gateway.pool, refund_id)
    if "sure" not in request[FORM] and not why_not(refund):
        question = Question(
            "Try this refund again?",
            (
                ("Amount", sats(refund["amount_sats"])),
                ("Goes to", refund["refund_to"]),
                ("Was rejected because", refund["refund_to_error"]),
            ),
            "The destination on file is asked once more. It is never paid twice.",
            "Try again",
            "/operator/refunds",
            {},
        )
        return ask(request, question)
    _, logged = await retry_refund(gateway.pool, gateway.on_file_wake, actor_of(request), refund_id)
    return to(after("/operator/refunds", logged))


async def frozen_page(request: web.Request) -> web.Response:
    """A payment that only the operator can decide. Raises Problem (404, 409)."""
    attempt = await frozen_attempt(request.app[GATEWAY].pool, request.match_info["id"])
    return show(request, "frozen.html", {"attempt": attempt})


async def frozen_decide(request: web.Request) -> web.Response:
    """Raises Problem (404, 409, 422)."""
    gateway, form = request.app[GATEWAY], request[FORM]
    attempt = await frozen_attempt(gateway.pool, request.match_info["id"])
    verdict = verdict_of(form)
    if "sure" in form:
        logged = await decide_frozen(gateway.pool, gateway.node, actor_of(request), attempt["id"], verdict)
        return to(after("/operator/refunds", logged))
    paid = isinstance(verdict, WasPaid)
    question = Question(
        "Book that it was paid?" if paid else "Say that it was NOT paid?",
        (
            ("Amount", sats(attempt["amount_sats"])),
            ("Payment hash", bytes(attempt["payment_hash"]).hex()),
            *((("Preimage", form["preimage"]), ("Routing fee", f"{form['fee_msat']} msat")) if paid else ()),
        ),
        "The preimage must prove this very payment. The debt ends."
        if paid
        else "It is owed again, and its owner can have it sent elsewhere. If it was paid after all, it is paid twice.",
        "It was paid" if paid else "It was not paid",
        f"/operator/frozen/{attempt['id']}",
        {name: form[name] for name in ("verdict", "preimage", "fee_msat") if name in form},
    )
    return ask(request, question)


def verdict_of(form: Mapping[str, str]) -> WasPaid | WasNotPaid:
    """Pure. Raises Problem (422)."""
    if form.get("verdict") == "failed":
        return WasNotPaid()
    preimage, fee_msat = form.get("preimage", ""), form.get("fee_msat", "")
    if form.get("verdict") != "paid" or not re.fullmatch("[0-9a-fA-F]{64}", preimage):
        raise Problem(problems.INVALID_BODY, "A preimage is 64 hexadecimal digits.")
    if not re.fullmatch("[0-9]{1,15}", fee_msat):
        raise Problem(problems.INVALID_BODY, "The routing fee is a whole number of msat.")
    return WasPaid(bytes.fromhex(preimage), int(fee_msat))


async def tell_again(request: web.Request) -> web.Response:
    """An event to an integrator: it moves no money, so it is not asked about first. Raises Problem (404)."""
    logged = await redeliver(request.app[GATEWAY].pool, actor_of(request), request.match_info["id"])
    return to(after("/operator/deliveries", logged))


async def identity_page(request: web.Request) -> web.Response:
    """One identity, known or not yet, and a form for what the operator says of it. Raises Problem (400)."""
    gateway, pubkey = request.app[GATEWAY], request.match_info["pubkey"]
    identities.check(gateway.rules, pubkey, Change())
    known = await gateway.pool.fetchrow(_q.identity, pubkey)
    tier, _ = grants.rank_of(known, gateway.rules)
    context = {
        "pubkey": pubkey,
        "known": known,
        "tier": tier.name if tier else None,
        "tiers": gateway.rules.tiers,
        "said": await said(request),
    }
    return show(request, "identity.html", context)


async def find_identity(request: web.Request) -> web.Response:
    """From the list's form to the page of a key that may not be known yet."""
    pubkey = request.query.get("pubkey", "").strip().lower()
    identities.check(request.app[GATEWAY].rules, pubkey, Change())
    return to(f"/operator/identities/{pubkey}")


async def identity_change(request: web.Request) -> web.Response:
    """Raises Problem (400, 422)."""
    gateway, form, pubkey = request.app[GATEWAY], request[FORM], request.match_info["pubkey"]
    change = Change(form.get("tier") or None, True, "blocked" in form, True)
    identities.check(gateway.rules, pubkey, change)
    if "sure" not in form:
        return ask(request, await _about(gateway, pubkey, change))
    _, logged = await set_identity(gateway.pool, gateway.rules, actor_of(request), pubkey, change)
    return to(after(f"/operator/identities/{pubkey}", logged))


async def _about(gateway: Gateway, pubkey: str, change: Change) -> Question:
    known = await gateway.pool.fetchrow(_q.identity, pubkey)
    was_tier = (known["operator_tier"] if known else None) or "what it earned"
    was_blocked = "blocked" if known and known["blocked"] else "let in"
    fields = {"tier": change.tier or ""} | ({"blocked": "yes"} if change.blocked else {})
    return Question(
        "Change this identity?",
        (
            ("Nostr key", pubkey),
            ("Tier", f"{was_tier} → {change.tier or 'what it earned'}"),
            ("Access", f"{was_blocked} → {'blocked' if change.blocked else 'let in'}"),
        ),
        "Blocked, it gets nothing from the free pool. What it paid for stays its own." if change.blocked else "",
        "Change it",
        f"/operator/identities/{pubkey}",
        fields,
    )


async def reconciliation(request: web.Request) -> web.Response:
    return show(request, "reconciliation.html", {"report": None})


async def reconcile(request: web.Request) -> web.Response:
    """The books against the node, now; repairs what is clear, as it does by itself every hour."""
    report = await books.reconcile_now(request.app[GATEWAY], actor_of(request))
    return show(request, "reconciliation.html", {"report": report})
