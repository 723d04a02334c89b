"""The aiohttp application: routes from the table, errors translated once, pages beside it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway import problems
from gateway.api import v1
from gateway.api.body import MAX_BODY_BYTES
from gateway.api.routes import ROUTES
from gateway.context import GATEWAY, Gateway
from gateway.pages import add_pages
from gateway.pages.docs import described
from gateway.problems import Problem
from ledger.database import DATABASE_AWAY
from lightning.types import NodeUnavailable

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(gateway: Gateway) -> web.Application:
    app = web.Application(middlewares=[count, translate_errors], client_max_size=MAX_BODY_BYTES + 1)
    app[GATEWAY] = gateway
    for route in ROUTES:
        app.router.add_route(route.method, route.path, route.handler)
    app.router.add_get("/openapi.json", openapi_json)
    add_pages(app)
    return app


async def openapi_json(request: web.Request) -> web.Response:
    body = described(request.app[GATEWAY].settings.base_url).body
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})


@web.middleware
async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
    resource = request.match_info.route.resource
    response = await handler(request)
    request.app[GATEWAY].metrics.requests.labels(resource.canonical if resource else "none", response.status).inc()
    return response


@web.middleware
async def translate_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refusals and faults become HTTP here and nowhere else: problem+json, or what an OpenAI client reads."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        problem = _problem_of_http(error)
    except DATABASE_AWAY as error:
        if isinstance(error, ConnectionResetError):
            raise
        log.warning("the database did not answer: %s: %s", type(error).__name__, error)
        problem = _away(problems.DATABASE_UNAVAILABLE)
    except NodeUnavailable as error:
        log.warning("the node did not answer: %s", error)
        problem = _away(problems.NODE_UNAVAILABLE)
    except Problem as refusal:
        problem = refusal
    except Exception:
        log.exception("a fault of ours at %s %s", request.method, request.path)
        problem = Problem(problems.INTERNAL, "It was logged. Your money is where the books say it is.")
    return v1.error_response(problem) if request.path.startswith("/v1/") else problem.response()


def _away(what: problems.ProblemType) -> Problem:
    return Problem(what, "Nothing was lost. Try again in a moment.", headers={"Retry-After": "5"})


def _problem_of_http(error: web.HTTPException) -> Problem:
    match error:
        case web.HTTPRequestEntityTooLarge():
            return Problem(problems.BODY_TOO_LARGE)
        case web.HTTPMethodNotAllowed():
            allow = {"Allow": error.headers.get("Allow", "")}
            return Problem(problems.METHOD_NOT_ALLOWED, f"It takes {allow['Allow']}.", headers=allow)
        case web.HTTPNotFound():
            return Problem(problems.NOT_FOUND)
    return Problem(problems.ProblemType("http_error", error.status, error.reason))
