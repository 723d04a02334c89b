"""The pages for people: the same use cases as the API, rendered on the server."""

from __future__ import annotations

from aiohttp import web

from gateway.pages import (
    demo_wallet,
    docs,
    errors,
    find,
    job,
    login,
    operator,
    pool,
    rendering,
    session,
    session_open,
    start,
)

__all__ = ["add_pages"]


def add_pages(app: web.Application) -> None:
    """Every page's route, its templates, its static files and its headers."""
    rendering.set_up(app)
    demo_wallet.set_up(app)
    app.middlewares.append(errors.unknown_pages)
    page = errors.as_page
    add = app.router
    add.add_get("/", page(start.show))
    add.add_post("/estimate", page(start.estimate))
    add.add_get("/estimate", page(start.go_to_start))
    add.add_post("/jobs", page(start.buy_job))
    add.add_get("/jobs", page(start.go_to_start))
    add.add_get("/jobs/{id}", page(job.show))
    add.add_get("/jobs/{id}/fragment", page(job.fragment))
    add.add_get("/jobs/{id}/events", job.events, allow_head=False)
    add.add_get("/jobs/{id}/result", page(job.result))
    add.add_get("/jobs/{id}/receipt", page(job.receipt))
    for path, action in (
        ("/jobs/{id}/cancel", job.cancel_job),
        ("/jobs/{id}/again", job.renew_job),
        ("/jobs/{id}/refund", job.refund_job),
        ("/jobs/{id}/donate", job.donate_dust),
        ("/jobs/{id}/demo-pay", job.demo_pay),
        ("/jobs/{id}/demo-refund", job.demo_refund),
    ):
        add.add_post(path, page(action))
        add.add_get(path, page(job.go_to_job))
    add.add_get("/sessions", page(session_open.show))
    add.add_post("/sessions", page(session_open.open_one))
    add.add_get("/sessions/{id}", page(session.show))
    add.add_get("/sessions/{id}/fragment", page(session.fragment))
    add.add_get("/sessions/{id}/events", session.events, allow_head=False)
    add.add_get("/sessions/{id}/result", page(session.result))
    for path, action in (
        ("/sessions/{id}/topup", session.top_up),
        ("/sessions/{id}/request", session.try_request),
        ("/sessions/{id}/close", session.close),
        ("/sessions/{id}/demo-pay", session.demo_pay),
        ("/sessions/{id}/demo-refund", session.demo_refund),
    ):
        add.add_post(path, page(action))
        add.add_get(path, page(session.go_to_session))
    for path, action in (("/login", login.login), ("/logout", login.logout)):
        add.add_post(path, page(action))
        add.add_get(path, page(start.go_to_start))
    add.add_get("/find", page(find.show))
    add.add_post("/find", page(find.find_job))
    add.add_get("/pool", page(pool.show))
    add.add_get("/docs", page(docs.show))
    add.add_get("/static/{file}", rendering.static)
    operator.add_pages(app)
