"""`/jobs/{id}`: one job as its buyer sees it. The cookie that buying gave opens it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from gateway import problems
from gateway.api.access import JOB_ID, require_job
from gateway.api.jobs import UNPAID, cancel, job_token, json_response, receipt_of, refund, stream_job, view_of
from gateway.api.models import JobView, RefundLnurlView
from gateway.api.withdraw import offer
from gateway.context import GATEWAY, Gateway
from gateway.pages import again
from gateway.pages.cookies import give_key
from gateway.pages.demo_wallet import DEMO_WALLET
from gateway.pages.details import in_words
from gateway.pages.download import download
from gateway.pages.elapsed import running_job
from gateway.pages.errors import problem_of
from gateway.pages.posted import read_form
from gateway.pages.qr import invoice_qr
from gateway.pages.rendering import render
from gateway.pages.result import Shown, shown
from gateway.pages.story import story
from gateway.pages.words import one_line
from gateway.problems import Problem
from gateway.refunds.claim import below_minimum
from gateway.refunds.donate import donate_refund
from ledger.database import DATABASE_AWAY
from lightning.types import NodeUnavailable

COOKIE = "boltworks_job"
FRAGMENT = "X-Fragment"
"""Sent by the page's script, and answered, when only the page's main part is wanted."""


@dataclass(frozen=True, slots=True)
class FormError:
    """Shown beside the form of that name, with what was typed."""

    form: str
    text: str
    typed: str
    status: int


NO_ERROR = FormError("", "", "", 200)


def give_cookie(response: web.StreamResponse, gateway: Gateway, job_id: str, token: str) -> None:
    give_key(response, gateway, COOKIE, f"/jobs/{job_id}", token)


async def show(request: web.Request) -> web.Response:
    return await _answer(request, await _opened(request))


async def go_to_job(request: web.Request) -> web.Response:
    """Somebody reloaded the address of a form."""
    if not JOB_ID.fullmatch(request.match_info["id"]):
        raise Problem(problems.JOB_NOT_FOUND)
    return web.Response(status=303, headers={"Location": f"/jobs/{request.match_info['id']}"})


async def fragment(request: web.Request) -> web.Response:
    return await _answer(request, await _opened(request), only_main=True)


async def events(request: web.Request) -> web.StreamResponse:
    gateway = request.app[GATEWAY]
    return await stream_job(request, gateway, cookie=COOKIE)


async def result(request: web.Request) -> web.Response:
    """The result as a download, whatever it is: a browser never renders it as ours."""
    job = await view_of(request.app[GATEWAY], await _opened(request))
    found = _shown(job)
    if found is None:
        raise Problem(problems.NOT_AVAILABLE, "There is no result yet.")
    return download(found)


async def receipt(request: web.Request) -> web.Response:
    """The signed receipt as a download."""
    found = await receipt_of(request.app[GATEWAY], job_id := await _opened(request))
    response = json_response(found.wire())
    response.headers["Content-Disposition"] = f'attachment; filename="receipt-{job_id}.json"'
    return response


async def cancel_job(request: web.Request) -> web.Response:
    job_id = await _opened(request)

    async def act() -> None:
        await cancel(request.app[GATEWAY], job_id)

    return await _act(request, job_id, "cancel", "", act)


async def renew_job(request: web.Request) -> web.Response:
    """A new job in place of this one that was not paid, its cookie too; what is paid or runs is shown again."""
    job_id = await _opened(request)
    try:
        new_id = await again.renewed(request, await view_of(request.app[GATEWAY], job_id))
    except (Problem, NodeUnavailable, *DATABASE_AWAY) as error:
        return await _answer(request, job_id, _refused("again", "", error))
    response = web.Response(status=303, headers={"Location": f"/jobs/{new_id}", "Cache-Control": "no-store"})
    if new_id != job_id:
        give_cookie(response, request.app[GATEWAY], new_id, job_token(request.app[GATEWAY], new_id))
    return response


async def refund_job(request: web.Request) -> web.Response:
    job_id = await _opened(request)
    destination = (await read_form(request)).get("destination", "").strip()

    async def act() -> None:
        if not destination:
            raise Problem(problems.DESTINATION_INVALID, "Paste an invoice of your wallet; it begins with lnbc.")
        await refund(request.app[GATEWAY], job_id, destination[:4096])

    return await _act(request, job_id, "refund", destination, act)


async def donate_dust(request: web.Request) -> web.Response:
    job_id = await _opened(request)

    async def act() -> None:
        gateway = request.app[GATEWAY]
        await donate_refund(gateway.pool, job_id, gateway.settings.refund_min_sats)

    return await _act(request, job_id, "donate", "", act)


async def demo_pay(request: web.Request) -> web.Response:
    job_id = await _opened(request)

    async def act() -> None:
        job = await view_of(request.app[GATEWAY], job_id)
        if job.state in UNPAID and job.invoice is not None:
            await request.app[DEMO_WALLET].pay(job.invoice.payment_request)

    return await _act(request, job_id, "demo-pay", "", act)


async def demo_refund(request: web.Request) -> web.Response:
    job_id = await _opened(request)

    async def act() -> None:
        gateway = request.app[GATEWAY]
        job = await view_of(gateway, job_id)
        if job.refund_state == "pending" or (job.refund_state == "paying" and job.refund_problem):
            await refund(gateway, job_id, await request.app[DEMO_WALLET].invoice(job.refund_amount_sats))

    return await _act(request, job_id, "demo-refund", "", act)


async def _opened(request: web.Request) -> str:
    return await require_job(request.app[GATEWAY], request, cookie=COOKIE)


async def _act(
    request: web.Request, job_id: str, form: str, typed: str, act: Callable[[], Awaitable[None]]
) -> web.Response:
    """Do it, and show the job again; a refusal stands beside its form."""
    only_main = FRAGMENT in request.headers
    try:
        await act()
    except (Problem, NodeUnavailable, *DATABASE_AWAY) as error:
        return await _answer(request, job_id, _refused(form, typed, error), only_main=only_main)
    if only_main:
        return await _answer(request, job_id, only_main=True)
    return web.Response(status=303, headers={"Location": f"/jobs/{job_id}", "Cache-Control": "no-store"})


def _refused(form: str, typed: str, error: BaseException) -> FormError:
    problem = problem_of(error)
    return FormError(form, one_line(problem), typed, problem.type.status)


async def _answer(
    request: web.Request, job_id: str, error: FormError = NO_ERROR, *, only_main: bool = False
) -> web.Response:
    """The job's page, or its main part for the script."""
    gateway = request.app[GATEWAY]
    job = await view_of(gateway, job_id)
    entry = gateway.catalogue.find(job.work)
    payable = job.state in UNPAID and job.invoice is not None
    withdrawal = await _withdrawal(gateway, job)
    works = job.state == "executing"
    context = {
        "job": job,
        "title": entry.title if entry else job.work,
        "story": story(job),
        "running": await running_job(gateway.pool, job_id, gateway.settings.work_timeout_s) if works else None,
        "shown": _shown(job),
        "qr": invoice_qr(job.invoice.payment_request) if payable and job.invoice else None,
        "too_small": in_words(below_minimum(job.refund_amount_sats, gateway.settings.refund_min_sats) or ""),
        "refund_problem": in_words(job.refund_problem or ""),
        "withdrawal": withdrawal,
        "withdrawal_qr": invoice_qr(withdrawal.lnurl) if withdrawal else None,
        "demo_wallet": await request.app[DEMO_WALLET].usable(),
        "renewable": await again.is_offered(gateway, job),
        "error": error,
    }
    template = "job_main.html" if only_main else "job.html"
    headers = {FRAGMENT: "1"} if only_main else {}
    return render(request, template, context, status=error.status, headers=headers)


async def _withdrawal(gateway: Gateway, job: JobView) -> RefundLnurlView | None:
    """The code to scan, while something waits to be fetched."""
    if job.refund_state != "pending" and not job.refund_problem:
        return None
    try:
        return await offer(gateway, job.id)
    except Problem:
        return None


def _shown(job: JobView) -> Shown | None:
    return shown(job.result) if job.state == "complete" else None
