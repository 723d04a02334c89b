"""The form of a session's page that tries a request: the catalogue's works, their fields, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from aiohttp import web

from gateway import problems
from gateway.api.session_calls import order
from gateway.catalogue import Catalogue, WorkEntry
from gateway.catalogue.model import OpenAiWork
from gateway.context import GATEWAY, Gateway
from gateway.idempotency import Claim
from gateway.jobs.price import Priced
from gateway.pages.details import N_
from gateway.pages.errors import problem_of
from gateway.pages.forms import Field, FieldError, fields
from gateway.pages.language import gettext as _
from gateway.pages.once import new_key, once
from gateway.pages.posted import read_form
from gateway.pages.prices import price_words
from gateway.pages.session_words import one_line_of
from gateway.pages.typed_input import priced_form
from gateway.problems import Problem
from gateway.sessions.serve import serve_request
from ledger.database import DATABASE_AWAY
from lightning.types import NodeUnavailable

USED = N_("This form ran a request before; see the statement. Send it again to run this one, too.")


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
    return Tried(works, chosen, shown, new_key(), model, notice, status)


async def run(request: web.Request, session_id: str) -> Tried | None:
    """Run what the form asks for, once for each form. None: it ran, and the session's page shows it."""
    gateway = request.app[GATEWAY]
    typed = await read_form(request)
    named = typed.get("work", "")
    try:
        priced = await _priced(gateway, named, typed)
        if isinstance(priced, FieldError):
            notice = _("Please look at your input again. Nothing was charged.")
            return trying(gateway.catalogue, named, typed, priced, notice, problems.INVALID_INPUT.status)
        await _run_once(request, gateway, session_id, priced, typed.get("key", ""))
    except (Problem, NodeUnavailable, *DATABASE_AWAY) as error:
        return _refused(gateway.catalogue, named, typed, problem_of(error))
    return None


def _refused(catalogue: Catalogue, named: str, typed: Mapping[str, str], problem: Problem) -> Tried:
    notice = _(USED) if problem.type is problems.IDEMPOTENCY_KEY_REUSED else one_line_of(problem)
    form = trying(catalogue, named, typed, None, notice, problem.type.status)
    key = typed.get("key", "") if problem.type in UNSURE else form.key
    missing_sats = int(problem.extra["missingSats"]) if "invoice" in problem.extra else 0
    return replace(form, key=key, missing_sats=missing_sats)


async def _priced(gateway: Gateway, named: str, typed: Mapping[str, str]) -> Priced | FieldError:
    """Raises Problem."""
    entry = gateway.catalogue.find(named)
    if entry is None or entry.evaluation is not None:
        raise Problem(problems.UNKNOWN_WORK)
    return await priced_form(gateway.catalogue, entry, typed)


async def _run_once(request: web.Request, gateway: Gateway, session_id: str, priced: Priced, key: str) -> None:
    """Raises Problem: not covered, failed, still running."""

    async def make(claimed: Claim) -> None:
        asked = order(request, session_id, claimed.resource_id, priced)
        await serve_request(gateway, asked, resumed=claimed.resumed)

    body = f"{priced.entry.name} {sorted(priced.input.items())!r}".encode(errors="replace")
    await once(gateway, f"POST /sessions/{session_id}/requests page", key, body, make)
