"""Refusals and faults of the pages, as pages. The same status as the API's, and what happens to the money."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import wraps

from aiohttp import web

from gateway import problems
from gateway.pages.login import know_viewer
from gateway.pages.origin import refuse_foreign_form
from gateway.pages.rendering import render
from gateway.pages.session_words import words_of
from gateway.pages.words import words_for
from gateway.problems import Problem
from ledger.database import DATABASE_AWAY
from lightning.types import NodeUnavailable

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ProblemPage = Callable[[web.Request, Problem], web.Response]

AWAY_HEADERS = {"Retry-After": "5"}
MACHINE_PATHS = ("/api/", "/v1/", "/webhooks/")


def as_page(handler: Handler) -> Handler:
    """The handler of a page: forms from our own pages only, and every refusal becomes a page."""

    async def known(request: web.Request) -> web.StreamResponse:
        await know_viewer(request)
        refuse_foreign_form(request)
        return await handler(request)

    return refusing_by(problem_page, handler, known)


def refusing_by(page: ProblemPage, name: Handler, handler: Handler) -> Handler:
    """Every refusal and fault of the handler becomes this page. `name`: whose name it bears."""

    @wraps(name)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            return page(request, Problem(problems.BODY_TOO_LARGE))
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return page(request, problem_of(error))
        except (Problem, NodeUnavailable, *DATABASE_AWAY) as error:
            if isinstance(error, ConnectionResetError):
                raise
            return page(request, problem_of(error))
        except Exception:
            log.exception("a fault of ours at %s %s", request.method, request.path)
            return page(request, Problem(problems.INTERNAL))

    return answer


@web.middleware
async def unknown_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """An address or method that no route has: a page for a browser, the API's answer for everything else."""
    try:
        return await handler(request)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
        if not wants_html(request) or request.path.startswith(MACHINE_PATHS):
            raise
        await know_viewer(request)
        response = problem_page(request, problem_of(error))
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response


def wants_html(request: web.Request) -> bool:
    return any(part.partition(";")[0].strip() == "text/html" for part in request.headers.get("Accept", "").split(","))


def problem_of(error: BaseException) -> Problem:
    """What a caught error means to the reader; a fault nobody expected is INTERNAL."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, NodeUnavailable):
        log.warning("the node did not answer: %s", error)
        return Problem(problems.NODE_UNAVAILABLE, headers=AWAY_HEADERS)
    if isinstance(error, web.HTTPNotFound):
        return Problem(problems.NOT_FOUND)
    if isinstance(error, web.HTTPMethodNotAllowed):
        return Problem(problems.METHOD_NOT_ALLOWED)
    if isinstance(error, web.HTTPException):
        return Problem(problems.ProblemType("http_error", error.status, error.reason))
    if isinstance(error, DATABASE_AWAY):
        log.warning("the database did not answer: %s: %s", type(error).__name__, error)
        return Problem(problems.DATABASE_UNAVAILABLE, headers=AWAY_HEADERS)
    return Problem(problems.INTERNAL)


def problem_page(request: web.Request, problem: Problem) -> web.Response:
    job_id = request.match_info.get("id") if request.path.startswith("/jobs/") else None
    known_job = job_id if problem.type not in (problems.JOB_NOT_FOUND, problems.NOT_FOUND) else None
    locked = problem.type in (problems.CREDENTIAL_REQUIRED, problems.CREDENTIAL_INVALID)
    of_session = request.path.startswith("/sessions/")
    away = problem.type.status == 503
    context = {
        "words": words_of(problem) if of_session else words_for(problem),
        "job_id": known_job,
        "session_id": request.match_info.get("id") if of_session and (away or request.method == "POST") else None,
        "locked": locked and known_job is not None,
        "again": away,
    }
    return render(request, "problem.html", context, status=problem.type.status, headers=problem.headers)
