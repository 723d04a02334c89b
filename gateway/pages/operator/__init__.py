"""`/operator`: the pages of the one who runs the gateway, behind the operator key. A script only to follow live."""

from __future__ import annotations

from aiohttp import web

from gateway.pages.operator import actions, lists, live, login, overview, plots, tail
from gateway.pages.operator.access import open_to_all, operator_only

__all__ = ["add_pages"]


def add_pages(app: web.Application) -> None:
    """Every route under `/operator`. All but the login's own are `operator_only`."""
    add = app.router
    add.add_get("/operator/login", open_to_all(login.form))
    add.add_post("/operator/login", open_to_all(login.login))
    add.add_post("/operator/logout", operator_only(login.logout))
    add.add_get("/operator/logins", operator_only(login.logins))
    add.add_post("/operator/logins/{id}/end", operator_only(login.end))
    add.add_get("/operator", operator_only(overview.page))
    app[live.STREAMS_OPEN] = live.Streams()
    add.add_get("/operator/live", operator_only(live.stream))
    add.add_get("/operator/events", operator_only(tail.page))
    for listing in lists.LISTINGS:
        add.add_get(f"/operator/{listing.name}", operator_only(lists.page_of(listing)))
        add.add_get(f"/operator/{listing.name}.csv", operator_only(lists.csv_of(listing)), allow_head=False)
    add.add_post("/operator/refunds/{id}/retry", operator_only(actions.refund_retry))
    add.add_get("/operator/frozen/{id}", operator_only(actions.frozen_page))
    add.add_post("/operator/frozen/{id}", operator_only(actions.frozen_decide))
    add.add_post("/operator/deliveries/{id}/redeliver", operator_only(actions.tell_again))
    add.add_get("/operator/identity", operator_only(actions.find_identity))
    add.add_get("/operator/identities/{pubkey}", operator_only(actions.identity_page))
    add.add_post("/operator/identities/{pubkey}", operator_only(actions.identity_change))
    add.add_get("/operator/pool", operator_only(actions.pool_page))
    add.add_post("/operator/pool", operator_only(actions.pool_topup))
    add.add_get("/operator/reconciliation", operator_only(actions.reconciliation))
    add.add_post("/operator/reconciliation", operator_only(actions.reconcile))
    app[plots.READINGS] = plots.Readings()
    add.add_get("/operator/plots", operator_only(plots.page))
    add.add_get("/operator/plots/{name}.svg", operator_only(plots.image))
