"""`/find`: a job whose page was lost, opened again by proof of payment."""

from __future__ import annotations

from aiohttp import web

from gateway.api.jobs import job_token
from gateway.context import GATEWAY
from gateway.jobs.proof import job_of_payment
from gateway.pages.job import give_cookie
from gateway.pages.posted import read_form
from gateway.pages.rendering import render

NOT_FOUND = (
    "No paid job fits these two. Check that both are of the same payment, and that the payment went through: "
    "a job that was never paid can not be found like this."
)


async def show(request: web.Request) -> web.Response:
    return _page(request)


async def find_job(request: web.Request) -> web.Response:
    """Gives the job's cookie. Nothing that was typed is shown again but the invoice."""
    gateway = request.app[GATEWAY]
    typed = await read_form(request)
    invoice, preimage = typed.get("invoice", "").strip()[:4096], typed.get("preimage", "").strip()
    job_id = await job_of_payment(gateway.pool, preimage, invoice)
    if job_id is None:
        return _page(request, NOT_FOUND, invoice, 404)
    response = web.Response(status=303, headers={"Location": f"/jobs/{job_id}", "Cache-Control": "no-store"})
    give_cookie(response, gateway, job_id, job_token(gateway, job_id))
    return response


def _page(request: web.Request, notice: str = "", invoice: str = "", status: int = 200) -> web.Response:
    return render(request, "find.html", {"notice": notice, "invoice": invoice}, status=status)
