"""The one table of routes. The router is built from it, and so is `/openapi.json`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web
from pydantic import BaseModel

from gateway import problems as p
from gateway.api import dust, identity, jobs, models, operator, sessions, system, v1, webhooks, withdraw
from gateway.problems import ProblemType
from gateway.settlement import webhook

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Access = Literal["open", "job", "identity", "session", "owner", "paid", "operator", "webhook"]


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    handler: Handler
    summary: str
    answer: type[BaseModel] | None
    status: int = 200
    body: type[BaseModel] | None = None
    access: Access = "open"
    idempotent: bool = False
    query: tuple[str, ...] = ()
    """Required query parameters."""
    media: str = "application/json"
    problems: tuple[ProblemType, ...] = field(default=())
    errors: type[BaseModel] | None = None
    """The shape of its errors; None: problem+json."""


_BODY = (p.INVALID_REQUEST, p.BODY_TOO_LARGE, p.NOT_JSON, p.INVALID_BODY)
_PRICED = (*_BODY, p.UNKNOWN_WORK, p.INVALID_INPUT, p.NOT_READY)
_IDEMPOTENT = (p.IDEMPOTENCY_KEY_INVALID, p.IDEMPOTENCY_KEY_REUSED, p.IDEMPOTENCY_KEY_IN_USE)
_JOB = (
    p.CREDENTIAL_REQUIRED,
    p.CREDENTIAL_INVALID,
    p.IDENTITY_INVALID,
    p.NOSTR_EVENT_REPLAYED,
    p.JOB_NOT_FOUND,
    p.INVALID_REQUEST,
    p.BODY_TOO_LARGE,
)
_AWAY = (p.NODE_UNAVAILABLE, p.DATABASE_UNAVAILABLE)
_OPERATOR = (p.CREDENTIAL_REQUIRED, p.CREDENTIAL_INVALID, p.DATABASE_UNAVAILABLE)
_SESSION = (p.CREDENTIAL_REQUIRED, p.CREDENTIAL_INVALID, p.DATABASE_UNAVAILABLE)
_PAID = (*_SESSION, p.INVALID_REQUEST, p.PAYMENT_REQUIRED, p.TOO_MANY_INVOICES, p.NODE_UNAVAILABLE)
_DESTINATION = (
    p.DESTINATION_INVALID,
    p.DESTINATION_EXPIRED,
    p.DESTINATION_WRONG_NETWORK,
    p.DESTINATION_OWN_NODE,
    p.DESTINATION_TIMELOCK,
    p.DESTINATION_WRONG_AMOUNT,
)

_ADDRESS = (
    p.DESTINATION_ADDRESS_FORBIDDEN,
    p.DESTINATION_AMOUNT_OUT_OF_RANGE,
    p.DESTINATION_UNUSABLE,
    p.DESTINATION_UNREACHABLE,
)

ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        "/api/estimate",
        jobs.estimate,
        "What a work on this input would cost at most, and who would pay it. Writes nothing.",
        models.EstimateView,
        body=models.EstimateRequest,
        problems=(*_PRICED, p.IDENTITY_INVALID, p.DATABASE_UNAVAILABLE),
    ),
    Route(
        "POST",
        "/api/jobs",
        jobs.create_job,
        "Buy a job: it starts when its invoice is paid.",
        models.CreatedJobView,
        status=201,
        body=models.JobRequest,
        idempotent=True,
        problems=(
            *_PRICED,
            *_IDEMPOTENT,
            *_DESTINATION,
            p.DESTINATION_ADDRESS_FORBIDDEN,
            p.MAX_SATS_EXCEEDED,
            p.TOO_MANY_INVOICES,
            p.SLOWED,
            p.IDENTITY_INVALID,
            p.NOSTR_EVENT_REPLAYED,
            *_AWAY,
        ),
    ),
    Route(
        "GET",
        "/api/jobs/{id}",
        jobs.get_job,
        "The job as it is now.",
        models.JobView,
        access="job",
        problems=(*_JOB, p.DATABASE_UNAVAILABLE),
    ),
    Route(
        "GET",
        "/api/jobs/{id}/events",
        jobs.job_events,
        "The job as server-sent events `job`: the current state first, then every change.",
        models.JobView,
        access="job",
        media="text/event-stream",
        problems=(*_JOB, p.DATABASE_UNAVAILABLE),
    ),
    Route(
        "GET",
        "/api/jobs/{id}/receipt",
        jobs.job_receipt,
        "Who paid what for a job that has ended, signed.",
        models.SignedReceiptView,
        access="job",
        problems=(*_JOB, p.NOT_AVAILABLE, p.DATABASE_UNAVAILABLE),
    ),
    Route(
        "GET",
        "/api/receipt-key",
        jobs.receipt_key,
        "The key that signs receipts.",
        models.ReceiptKeyView,
    ),
    Route(
        "POST",
        "/api/jobs/{id}/cancel",
        jobs.cancel_job,
        "Give up an unpaid job: its invoice is cancelled at the node first.",
        models.JobView,
        access="job",
        problems=(*_JOB, p.JOB_NOT_CANCELABLE, *_AWAY),
    ),
    Route(
        "POST",
        "/api/jobs/{id}/refund",
        jobs.refund_job,
        "Where to send what is owed back; given before anything is owed, it is kept until then.",
        models.JobView,
        status=202,
        body=models.RefundRequest,
        access="job",
        idempotent=True,
        problems=(
            *_BODY,
            *_JOB,
            *_IDEMPOTENT,
            *_DESTINATION,
            *_ADDRESS,
            p.DESTINATION_USED,
            p.NOTHING_TO_REFUND,
            p.REFUND_BELOW_MINIMUM,
            p.REFUND_IN_PROGRESS,
            *_AWAY,
        ),
    ),
    Route(
        "POST",
        "/api/jobs/{id}/refund/donate",
        dust.donate_dust,
        "Give what is too little to be sent to the free pool.",
        models.JobView,
        access="job",
        idempotent=True,
        problems=(*_JOB, *_IDEMPOTENT, p.NOTHING_TO_REFUND, p.REFUND_NOT_DUST, p.DATABASE_UNAVAILABLE),
    ),
    Route(
        "GET",
        "/api/jobs/{id}/refund/lnurl",
        withdraw.refund_lnurl,
        "An LNURL-withdraw code: a wallet that scans it fetches what is owed. Used once.",
        models.RefundLnurlView,
        access="job",
        problems=(
            *_JOB,
            p.NOTHING_TO_REFUND,
            p.REFUND_BELOW_MINIMUM,
            p.REFUND_IN_PROGRESS,
            p.DATABASE_UNAVAILABLE,
        ),
    ),
    Route(
        "GET",
        "/lnurl/withdraw/{k1}",
        withdraw.withdraw_request,
        "A wallet's first call (LUD-03) and its balance check (LUD-14). Errors are `status` ERROR with HTTP 200.",
        models.WithdrawView,
    ),
    Route(
        "GET",
        "/lnurl/withdraw/{k1}/pay",
        withdraw.withdraw_pay,
        "A wallet's second call: its invoice over what is owed. Errors are `status` ERROR with HTTP 200.",
        models.LnurlStatusView,
        query=("k1", "pr"),
    ),
    Route(
        "POST",
        "/api/sessions",
        sessions.create_session,
        "Open a session: a balance to pay requests from, active when its deposit is paid.",
        models.CreatedSessionView,
        status=201,
        body=models.SessionRequest,
        idempotent=True,
        problems=(
            *_BODY,
            *_IDEMPOTENT,
            *_DESTINATION,
            p.TOO_MANY_INVOICES,
            p.IDENTITY_INVALID,
            p.NOSTR_EVENT_REPLAYED,
            *_AWAY,
        ),
    ),
    Route(
        "GET",
        "/api/sessions/current",
        sessions.get_session,
        "The session as it is now.",
        models.SessionView,
        access="owner",
        problems=_SESSION,
    ),
    Route(
        "POST",
        "/api/sessions/current/requests",
        sessions.session_request,
        "Run a work now, and pay what it really cost from the balance.",
        models.SessionResultView,
        body=models.SessionWorkRequest,
        access="session",
        idempotent=True,
        problems=(
            *_PRICED,
            *_IDEMPOTENT,
            *_SESSION,
            p.BALANCE_TOO_LOW,
            p.MAX_SATS_EXCEEDED,
            p.SESSION_NOT_ACTIVE,
            p.WORK_NOT_IN_SESSIONS,
            p.WORK_FAILED,
            p.SLOWED,
        ),
    ),
    Route(
        "GET",
        "/v1/models",
        v1.models,
        "OpenAI-compatible: the models that are sold, for a session's token as API key, or an L402 token.",
        models.ModelListView,
        access="paid",
        problems=_PAID,
        errors=models.OpenAiErrorView,
    ),
    Route(
        "POST",
        "/v1/chat/completions",
        v1.chat_completions,
        "OpenAI-compatible: a chat completion, streamed or not, paid from a session's balance or an L402 token's.",
        models.ChatView,
        body=models.ChatRequest,
        access="paid",
        problems=(
            *_PAID,
            p.BODY_TOO_LARGE,
            p.UNKNOWN_MODEL,
            p.INVALID_INPUT,
            p.BALANCE_TOO_LOW,
            p.MAX_SATS_EXCEEDED,
            p.SESSION_NOT_ACTIVE,
            p.WORK_FAILED,
            p.ANSWER_INTERRUPTED,
            p.SLOWED,
        ),
        errors=models.OpenAiErrorView,
    ),
    Route(
        "POST",
        "/api/sessions/current/topups",
        sessions.topup_session,
        "Add to the balance: an invoice.",
        models.SessionTopupView,
        status=201,
        body=models.SessionTopupRequest,
        access="session",
        idempotent=True,
        problems=(*_BODY, *_IDEMPOTENT, *_SESSION, p.SESSION_NOT_ACTIVE, p.TOO_MANY_INVOICES, p.NODE_UNAVAILABLE),
    ),
    Route(
        "POST",
        "/api/sessions/current/close",
        sessions.close_session,
        "End the session: the rest is refunded. A destination needs the refundKey. The body may be empty.",
        models.SessionView,
        body=models.CloseRequest,
        access="owner",
        idempotent=True,
        problems=(
            *_BODY,
            *_IDEMPOTENT,
            *_SESSION,
            *_DESTINATION,
            p.REFUND_KEY_INVALID,
            p.SESSION_NOT_ACTIVE,
            p.DESTINATION_USED,
            p.NOTHING_TO_REFUND,
            p.REFUND_BELOW_MINIMUM,
            p.REFUND_IN_PROGRESS,
            p.NODE_UNAVAILABLE,
        ),
    ),
    Route(
        "GET",
        "/api/sessions/current/refund/lnurl",
        withdraw.session_refund_lnurl,
        "LNURL-withdraw of what an ended session owes. Header `X-Refund-Key`, or a whole L402 credential.",
        models.RefundLnurlView,
        access="owner",
        problems=(
            *_SESSION,
            p.REFUND_KEY_INVALID,
            p.NOTHING_TO_REFUND,
            p.REFUND_BELOW_MINIMUM,
            p.REFUND_IN_PROGRESS,
        ),
    ),
    Route(
        "GET",
        "/api/sessions/current/statement",
        sessions.session_statement,
        "Every payment, request and refund, numbered, with the balance after it. Pages by `after` and `limit`.",
        models.StatementView,
        access="owner",
        problems=(p.INVALID_REQUEST, *_SESSION),
    ),
    Route("GET", "/api/works", system.works, "The catalogue.", models.WorksView),
    Route("GET", "/api/pool", system.pool, "The free-tier pool.", models.PoolView, problems=(p.DATABASE_UNAVAILABLE,)),
    Route(
        "POST",
        "/api/identity/challenge",
        identity.identity_challenge,
        "A challenge for logging in with a Nostr key, to be signed within five minutes.",
        models.ChallengeView,
        problems=(p.TOO_MANY_LOGINS, p.DATABASE_UNAVAILABLE),
    ),
    Route(
        "POST",
        "/api/identity/verify",
        identity.identity_verify,
        "A token for the challenge's signed event.",
        models.IdentityTokenView,
        body=models.VerifyRequest,
        problems=(*_BODY, p.IDENTITY_INVALID, p.CHALLENGE_INVALID, p.DATABASE_UNAVAILABLE),
    ),
    Route(
        "GET",
        "/api/identity",
        identity.get_identity,
        "Who is asking.",
        models.IdentityView,
        access="identity",
        problems=(p.CREDENTIAL_REQUIRED, p.IDENTITY_INVALID, p.DATABASE_UNAVAILABLE),
    ),
    Route(
        "POST",
        "/api/pool/donations",
        system.donate_to_pool,
        "Give the free-tier pool sats: an invoice.",
        models.DonationView,
        status=201,
        body=models.DonationRequest,
        idempotent=True,
        problems=(*_BODY, *_IDEMPOTENT, p.TOO_MANY_INVOICES, *_AWAY),
    ),
    Route(
        "POST",
        "/api/operator/pool/topups",
        operator.operator_topup,
        "Give the pool money of the operator's; booked at once.",
        models.PoolView,
        body=models.TopupRequest,
        access="operator",
        idempotent=True,
        problems=(*_BODY, *_OPERATOR, p.IDEMPOTENCY_KEY_INVALID, p.IDEMPOTENCY_KEY_REUSED, p.POOL_FULL),
    ),
    Route(
        "PUT",
        "/api/operator/identities/{pubkey}",
        operator.operator_identity,
        "Set an identity's tier (null: what it earned), block it or let it in; makes it known when it is new.",
        models.OperatorIdentityView,
        body=models.IdentityChange,
        access="operator",
        problems=(*_BODY, *_OPERATOR),
    ),
    Route(
        "POST",
        "/api/operator/refunds/{id}/retry",
        operator.operator_retry_refund,
        "Try a rejected destination on file again.",
        models.RefundRetryView,
        access="operator",
        problems=(*_OPERATOR, p.REFUND_NOT_FOUND, p.REFUND_NOT_RETRYABLE),
    ),
    Route(
        "GET",
        "/api/operator/reconciliation",
        operator.operator_reconciliation,
        "The books against the node's own lists, now; repairs what is clear.",
        models.ReconciliationView,
        access="operator",
        problems=_OPERATOR,
    ),
    Route(
        "POST",
        "/api/operator/webhooks",
        webhooks.operator_create_webhook,
        "Tell an address of jobs and refunds (Standard Webhooks, at least once).",
        models.CreatedWebhookView,
        status=201,
        body=models.WebhookRequest,
        access="operator",
        idempotent=True,
        problems=(*_BODY, *_IDEMPOTENT, *_OPERATOR),
    ),
    Route(
        "PUT",
        "/api/operator/webhooks/{id}",
        webhooks.operator_change_webhook,
        "Change an address, what it is told, or whether it is told at all. What is not given stays.",
        models.WebhookView,
        body=models.WebhookChange,
        access="operator",
        problems=(*_BODY, *_OPERATOR, p.WEBHOOK_NOT_FOUND),
    ),
    Route(
        "POST",
        "/api/operator/webhooks/deliveries/{id}/redeliver",
        webhooks.operator_redeliver,
        "Tell an event again.",
        models.WebhookDeliveryView,
        status=202,
        access="operator",
        problems=(*_OPERATOR, p.WEBHOOK_NOT_FOUND),
    ),
    *(
        Route(
            "GET",
            f"/api/operator/{name}",
            handler,
            f"{summary} CSV on `Accept: text/csv`.",
            models.PageView,
            access="operator",
            problems=(p.INVALID_REQUEST, *_OPERATOR),
        )
        for name, handler, summary in (
            ("identities", operator.operator_identities, "All identities."),
            ("grants", operator.operator_grants, "What the pool really paid, newest first."),
            ("transfers", operator.operator_transfers, "The book, newest first."),
            ("jobs", operator.operator_jobs, "All jobs, newest first."),
            ("sessions", operator.operator_sessions, "All sessions, newest first."),
            ("refunds", operator.operator_refunds, "All refunds, newest first."),
            ("webhooks", webhooks.operator_webhooks, "Who is told of events."),
            ("webhooks/deliveries", webhooks.operator_webhook_deliveries, "What was told, or is to be; newest first."),
            ("balances", operator.operator_balances, "Every account on its normal side."),
        )
    ),
    Route(
        "POST",
        "/webhooks/lightning/invoice-settled",
        webhook.invoice_settled,
        "The watcher's word that an invoice settled (Standard Webhooks); it is verified at the node.",
        None,
        status=204,
        body=models.InvoiceSettledEvent,
        access="webhook",
        problems=(
            p.INVALID_REQUEST,
            p.BODY_TOO_LARGE,
            p.INVALID_BODY,
            p.WEBHOOK_SIGNATURE,
            p.UNKNOWN_INVOICE,
            p.NOT_SETTLED,
            *_AWAY,
        ),
    ),
    Route("GET", "/healthz", system.healthz, "The process is alive.", models.HealthView),
    Route(
        "GET",
        "/readyz",
        system.readyz,
        "Database and node are reachable, and the node is synced.",
        models.ReadyView,
        problems=(p.NOT_READY,),
    ),
    Route("GET", "/metrics", system.metrics, "Prometheus metrics.", None, media="text/plain"),
)
