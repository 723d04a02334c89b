"""The aiohttp application: routes from the table, errors translated once, pages beside it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from aiohttp import web

from gateway import problems
from gateway.api import openapi
from gateway.api.body import MAX_BODY_BYTES
from gateway.api.jobs import json_response
from gateway.api.routes import ROUTES
from gateway.context import GATEWAY, Gateway
from gateway.pages import add_pages
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
    gateway = request.app[GATEWAY]
    return json_response(openapi.document(version("boltworks"), gateway.settings.base_url))


@web.middleware
async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
    resource = request.match_info.route.resource
    response = await handler(request)
    request.app[GATEWAY].metrics.requests.labels(resource.canonical if resource else "none", response.status).inc()
    return response


@web.middleware
async def translate_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refusals and faults become problem+json here and nowhere else."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except NodeUnavailable as error:
        log.warning("the node did not answer: %s", error)
        detail = "Nothing was lost. Try again in a moment."
        return Problem(problems.NODE_UNAVAILABLE, detail, headers={"Retry-After": "5"}).response()
    except web.HTTPRequestEntityTooLarge:
        return Problem(problems.BODY_TOO_LARGE).response()
    except web.HTTPMethodNotAllowed as error:
        allow = {"Allow": error.headers.get("Allow", "")}
        return Problem(problems.METHOD_NOT_ALLOWED, f"It takes {allow['Allow']}.", headers=allow).response()
    except web.HTTPNotFound:
        return Problem(problems.NOT_FOUND).response()
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return Problem(problems.ProblemType("http_error", error.status, error.reason)).response()
    except DATABASE_AWAY as error:
        if isinstance(error, ConnectionResetError):
            raise
        log.warning("the database did not answer: %s: %s", type(error).__name__, error)
        detail = "Nothing was lost. Try again in a moment."
        return Problem(problems.DATABASE_UNAVAILABLE, detail, headers={"Retry-After": "5"}).response()
    except Exception:
        log.exception("a fault of ours at %s %s", request.method, request.path)
        return Problem(problems.INTERNAL, "It was logged. Your money is where the books say it is.").response()
