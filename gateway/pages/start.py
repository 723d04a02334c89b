"""`/`: choose a work, give its input, see the price, buy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway import problems
from gateway.api.access import client_address
from gateway.api.jobs import buy, job_token
from gateway.api.system import pool_view
from gateway.catalogue import WorkEntry
from gateway.context import GATEWAY, Gateway
from gateway.idempotency import Claim
from gateway.jobs.gate import dry_run, standing
from gateway.jobs.price import Priced
from gateway.pages import job
from gateway.pages.details import N_
from gateway.pages.errors import problem_of
from gateway.pages.forms import FieldError, fields
from gateway.pages.language import gettext as _
from gateway.pages.login import page_identity
from gateway.pages.once import new_key, once
from gateway.pages.posted import read_form
from gateway.pages.prices import price_words
from gateway.pages.rendering import VIEWER, render, sats
from gateway.pages.typed_input import priced_form
from gateway.pages.words import one_line
from gateway.problems import Problem
from ledger.database import DATABASE_AWAY
from ledger.free_tier import Decision
from lightning.types import NodeUnavailable

SCOPE = "POST /jobs page"


@dataclass(frozen=True, slots=True)
class Order:
    """A form that could be priced."""

    entry: WorkEntry
    input: Mapping[str, Any]
    decision: Decision
    estimate_sats: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A form that could not: which field, or why."""

    field_error: FieldError | None
    notice: str
    status: int


@dataclass(frozen=True, slots=True)
class Offer:
    """The price that stands on the page, and the key under which it can be bought once."""

    order: Order
    key: str


async def show(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    named = request.query.get("work")
    entry = gateway.catalogue.works[0] if named is None else gateway.catalogue.find(named)
    if entry is None:
        raise Problem(problems.UNKNOWN_WORK)
    return await _page(request, entry, None)


async def go_to_start(request: web.Request) -> web.Response:
    """Somebody reloaded the address of a form."""
    return web.Response(status=303, headers={"Location": "/"})


async def estimate(request: web.Request) -> web.Response:
    """The same page with the price; nothing is written."""
    gateway = request.app[GATEWAY]
    typed = await read_form(request)
    entry = _entry(gateway, typed)
    order = await _order(request, entry, typed)
    if isinstance(order, Refused):
        return await _page(request, entry, typed, refused=order)
    return await _page(request, entry, typed, offer=Offer(order, new_key()))


async def buy_job(request: web.Request) -> web.Response:
    """Create the job once for this form, give its cookie, go to its page."""
    gateway = request.app[GATEWAY]
    typed = await read_form(request)
    entry = _entry(gateway, typed)
    order = await _order(request, entry, typed)
    if isinstance(order, Refused):
        return await _page(request, entry, typed, refused=order)
    key = typed.get("key", "")
    if typed.get("agreed") != str(order.estimate_sats):
        price_now = sats(order.estimate_sats)
        notice = _("The price of what you gave now is %(sats)s. Please check it before you buy.", sats=price_now)
        return await _page(
            request, entry, typed, offer=Offer(order, new_key()), refused=Refused(None, notice, 409), moved=True
        )
    try:
        job_id = await _buy_once(request, gateway, order, key)
    except (Problem, NodeUnavailable, *DATABASE_AWAY) as error:
        problem = problem_of(error)
        spent = problem.type in (problems.IDEMPOTENCY_KEY_REUSED, problems.IDEMPOTENCY_KEY_INVALID)
        offer = Offer(order, new_key() if spent else key)
        refused = Refused(None, _(_FORM_USED) if spent else one_line(problem), problem.type.status)
        return await _page(request, entry, typed, offer=offer, refused=refused)
    response = web.Response(status=303, headers={"Location": f"/jobs/{job_id}", "Cache-Control": "no-store"})
    job.give_cookie(response, gateway, job_id, job_token(gateway, job_id))
    return response


_FORM_USED = N_("This form bought a job before. Please check the price and buy again.")


async def _buy_once(request: web.Request, gateway: Gateway, order: Order, key: str) -> str:
    """The job's id, the same one for the same form. Raises Problem, NodeUnavailable."""

    async def make(claimed: Claim) -> None:
        priced = Priced(order.entry, order.input, order.estimate_sats)
        pubkey = await page_identity(gateway, request)
        await buy(gateway, request, priced, claimed.resource_id, resumed=claimed.resumed, pubkey=pubkey)

    body = json.dumps([order.entry.name, order.input], sort_keys=True).encode()
    return await once(gateway, SCOPE, key, body, make)


def _entry(gateway: Gateway, typed: Mapping[str, str]) -> WorkEntry:
    entry = gateway.catalogue.find(typed.get("work", ""))
    if entry is None:
        raise Problem(problems.UNKNOWN_WORK)
    return entry


async def _order(request: web.Request, entry: WorkEntry, typed: Mapping[str, str]) -> Order | Refused:
    gateway = request.app[GATEWAY]
    priced = await priced_form(gateway.catalogue, entry, typed)
    if isinstance(priced, FieldError):
        return Refused(priced, _("Please look at your input again. Nothing was bought."), problems.INVALID_INPUT.status)
    address = client_address(request, gateway.settings.trusted_proxies)
    decision = await dry_run(gateway, await page_identity(gateway, request), address, priced)
    return Order(entry, priced.input, decision, priced.estimate_sats)


async def _page(
    request: web.Request,
    entry: WorkEntry,
    typed: Mapping[str, str] | None,
    *,
    offer: Offer | None = None,
    refused: Refused | None = None,
    moved: bool = False,
) -> web.Response:
    error = refused.field_error if refused else None
    shown = fields(entry.schema_of_input, typed, entry.example, error)
    context = {
        **await _free_tier(request),
        "works": [(work, price_words(work.price)) for work in request.app[GATEWAY].catalogue.works],
        "chosen": entry,
        "price": price_words(entry.price),
        "fields": [field for field in shown if not field.advanced],
        "advanced": [field for field in shown if field.advanced],
        "whole_error": error.reason if error and not any(field.error for field in shown) else "",
        "offer": offer,
        "notice": refused.notice if refused else "",
        "price_moved": moved,
    }
    return render(request, "start.html", context, status=refused.status if refused else 200)


async def _free_tier(request: web.Request) -> dict[str, Any]:
    """What the pool has, and where the visitor stands, for a gateway that has tiers."""
    gateway = request.app[GATEWAY]
    nothing: dict[str, Any] = {"pool": None, "standing": None}
    if not gateway.rules.tiers:
        return nothing
    pubkey = request.get(VIEWER)
    try:
        return {"pool": await pool_view(gateway), "standing": await standing(gateway, pubkey) if pubkey else None}
    except DATABASE_AWAY:
        return nothing
