"""`/find`: a job or a balance whose page was lost, opened again by proof of payment."""

from __future__ import annotations

from aiohttp import web

from gateway.api.jobs import job_token
from gateway.context import GATEWAY
from gateway.jobs.proof import paid_for
from gateway.pages.job import give_cookie
from gateway.pages.posted import read_form
from gateway.pages.rendering import render
from gateway.pages.session import give_keys

NOT_FOUND = (
    "Nothing that was paid fits these two. Check that both are of the same payment, and that the payment went "
    "through: what was never paid can not be found like this."
)


async def show(request: web.Request) -> web.Response:
    return _page(request)


async def find_job(request: web.Request) -> web.Response:
    """Gives the cookies of what was paid for. Nothing that was typed is shown again but the invoice."""
    gateway = request.app[GATEWAY]
    typed = await read_form(request)
    invoice, preimage = typed.get("invoice", "").strip()[:4096], typed.get("preimage", "").strip()
    found = await paid_for(gateway.pool, preimage, invoice)
    if found is None:
        return _page(request, NOT_FOUND, invoice, 404)
    path = f"/sessions/{found.id}" if found.is_session else f"/jobs/{found.id}"
    response = web.Response(status=303, headers={"Location": path, "Cache-Control": "no-store"})
    if found.is_session:
        give_keys(response, gateway, found.id)
    else:
        give_cookie(response, gateway, found.id, job_token(gateway, found.id))
    return response


def _page(request: web.Request, notice: str = "", invoice: str = "", status: int = 200) -> web.Response:
    return render(request, "find.html", {"notice": notice, "invoice": invoice}, status=status)
