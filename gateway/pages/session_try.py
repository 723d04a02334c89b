"""The form of a session's page that tries a request: the catalogue's works, their fields, and what came of it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace

from aiohttp import web

from gateway import idempotency, problems
from gateway.api.session_calls import order
from gateway.catalogue import Catalogue, WorkEntry
from gateway.catalogue.model import OpenAiWork
from gateway.context import GATEWAY, Gateway
from gateway.jobs.price import Priced, price
from gateway.pages.errors import problem_of
from gateway.pages.forms import Field, FieldError, field_error, fields, read_input
from gateway.pages.posted import read_form
from gateway.pages.prices import price_words
from gateway.pages.session_words import one_line_of
from gateway.problems import Problem
from gateway.sessions.serve import serve_request
from ledger.database import DATABASE_AWAY
from lightning.types import NodeUnavailable

USED = "This form ran a request before; see the statement. Send it again to run this one, too."


@dataclass(frozen=True, slots=True)
class Tried:
    """`works`: what sessions may use (name, title, price). None is chosen when there is none."""

    works: tuple[tuple[WorkEntry, str], ...]
    chosen: WorkEntry | None
    fields: tuple[Field, ...]
    key: str
    model: str | None
    """A model for the snippets, if one is sold."""
    notice: str = ""
    status: int = 200
    missing_sats: int = 0
    """What the balance lacks, when there is an invoice over it on the page."""


UNSURE = frozenset({problems.IDEMPOTENCY_KEY_IN_USE, problems.DATABASE_UNAVAILABLE})
"""The request may have begun: the form keeps its key, so that sending it again can not charge twice."""


def trying(
    catalogue: Catalogue,
    named: str | None,
    typed: Mapping[str, str] | None = None,
    error: FieldError | None = None,
    notice: str = "",
    status: int = 200,
) -> Tried:
    """The form, fresh or as it was typed."""
    works = tuple((entry, price_words(entry.price)) for entry in catalogue.works if entry.evaluation is None)
    chosen = next((entry for entry, _ in works if entry.name == named), works[0][0] if works else None)
    shown = fields(chosen.schema_of_input, typed, chosen.example, error) if chosen else ()
    model = next((entry.name for entry, _ in works if isinstance(entry, OpenAiWork)), None)
    if error is not None and not any(field.error for field in shown):
        notice = f"{notice} {error.reason}"
    return Tried(works, chosen, shown, secrets.token_urlsafe(24), model, notice, status)


async def run(request: web.Request, session_id: str) -> Tried | None:
    """Run what the form asks for, once for each form. None: it ran, and the session's page shows it."""
    gateway = request.app[GATEWAY]
    typed = await read_form(request)
    named = typed.get("work", "")
    try:
        priced = await _priced(gateway, named, typed)
        if isinstance(priced, FieldError):
            notice = "Please look at your input again. Nothing was charged."
            return trying(gateway.catalogue, named, typed, priced, notice, problems.INVALID_INPUT.status)
        await _run_once(request, gateway, session_id, priced, typed.get("key", ""))
    except (Problem, NodeUnavailable, *DATABASE_AWAY) as error:
        return _refused(gateway.catalogue, named, typed, problem_of(error))
    return None


def _refused(catalogue: Catalogue, named: str, typed: Mapping[str, str], problem: Problem) -> Tried:
    notice = USED if problem.type is problems.IDEMPOTENCY_KEY_REUSED else one_line_of(problem)
    form = trying(catalogue, named, typed, None, notice, problem.type.status)
    key = typed.get("key", "") if problem.type in UNSURE else form.key
    missing_sats = int(problem.extra["missingSats"]) if "invoice" in problem.extra else 0
    return replace(form, key=key, missing_sats=missing_sats)


async def _priced(gateway: Gateway, named: str, typed: Mapping[str, str]) -> Priced | FieldError:
    """Raises Problem."""
    entry = gateway.catalogue.find(named)
    if entry is None or entry.evaluation is not None:
        raise Problem(problems.UNKNOWN_WORK)
    given = read_input(entry.schema_of_input, typed)
    if isinstance(given, FieldError):
        return given
    try:
        return await price(gateway.catalogue, entry.name, given)
    except Problem as problem:
        if problem.type is not problems.INVALID_INPUT:
            raise
        pointer = str(problem.extra.get("pointer", ""))
        return field_error(pointer, problem.detail.removeprefix(f"{pointer}: "))


async def _run_once(request: web.Request, gateway: Gateway, session_id: str, priced: Priced, key: str) -> None:
    """Raises Problem: not covered, failed, still running."""
    body = f"{priced.entry.name} {sorted(priced.input.items())!r}".encode(errors="replace")
    claimed = await idempotency.claim(
        gateway.pool,
        scope=f"POST /sessions/{session_id}/requests page",
        key=idempotency.checked_key(key) or "",
        body=body,
        lease_s=gateway.settings.lease_s,
    )
    if isinstance(claimed, idempotency.Replay):
        return
    try:
        await serve_request(gateway, order(request, session_id, claimed.resource_id, priced), resumed=claimed.resumed)
        await idempotency.finish(gateway.pool, claimed, 303, {"id": claimed.resource_id})
    except BaseException:
        await asyncio.shield(idempotency.release(gateway.pool, claimed))
        raise
