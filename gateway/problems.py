"""Errors as RFC 9457 `application/problem+json`, each with a stable `code`. The only place where they become HTTP."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True, slots=True)
class ProblemType:
    """`code` is stable for ever; `title` is for people and says what it means for their money where it matters."""

    code: str
    status: int
    title: str


@dataclass(slots=True)
class Problem(Exception):
    """An expected refusal. `detail` is plain words, `extra` are further members (camelCase)."""

    type: ProblemType
    detail: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "type": f"urn:boltworks:problem:{self.type.code}",
            "title": self.type.title,
            "status": self.type.status,
            "code": self.type.code,
        }
        if self.detail:
            body["detail"] = self.detail
        return body | self.extra

    def response(self) -> web.Response:
        return web.Response(
            status=self.type.status,
            body=json.dumps(self.body(), ensure_ascii=False).encode(),
            content_type="application/problem+json",
            headers={"Cache-Control": "no-store", **self.headers},
        )


NOT_FOUND = ProblemType("not_found", 404, "There is nothing at this address")
METHOD_NOT_ALLOWED = ProblemType("method_not_allowed", 405, "This address does not take that method")
INVALID_REQUEST = ProblemType("invalid_request", 400, "The request could not be read")
BODY_TOO_LARGE = ProblemType("body_too_large", 413, "The request's body is too long")
NOT_JSON = ProblemType("not_json", 415, "The request's body must be application/json")
INVALID_BODY = ProblemType("invalid_body", 422, "The request's body does not have the right form")
UNKNOWN_WORK = ProblemType("unknown_work", 404, "There is no such work in the catalogue")
UNKNOWN_MODEL = ProblemType("unknown_model", 404, "There is no such model in the catalogue")
INVALID_INPUT = ProblemType("invalid_input", 422, "The input does not fit the work's schema")
IDEMPOTENCY_KEY_INVALID = ProblemType("idempotency_key_invalid", 400, "The Idempotency-Key is not usable")
IDEMPOTENCY_KEY_REUSED = ProblemType("idempotency_key_reused", 422, "This Idempotency-Key was used for another request")
IDEMPOTENCY_KEY_IN_USE = ProblemType(
    "idempotency_key_in_use", 409, "The first request with this Idempotency-Key is still running"
)
TOO_MANY_INVOICES = ProblemType("too_many_open_invoices", 429, "Too many invoices are waiting to be paid")
SLOWED = ProblemType("slowed", 429, "Work that keeps failing slows its buyer down")
CREDENTIAL_REQUIRED = ProblemType("credential_required", 401, "A credential is needed")
CREDENTIAL_INVALID = ProblemType("credential_invalid", 401, "The credential does not open this")
JOB_NOT_FOUND = ProblemType("job_not_found", 404, "There is no such job")
JOB_NOT_CANCELABLE = ProblemType("job_not_cancelable", 409, "The job can no longer be cancelled")
POOL_FULL = ProblemType("pool_full", 409, "The pool can not hold that much")
NODE_UNAVAILABLE = ProblemType("node_unavailable", 503, "The Lightning node does not answer just now")
DATABASE_UNAVAILABLE = ProblemType("database_unavailable", 503, "The database does not answer just now")
NOT_READY = ProblemType("not_ready", 503, "The gateway is not ready")

NOTHING_TO_REFUND = ProblemType("nothing_to_refund", 409, "Nothing is owed on this job")
REFUND_BELOW_MINIMUM = ProblemType("refund_below_minimum", 409, "This is too little to be sent")
REFUND_NOT_DUST = ProblemType("refund_not_dust", 409, "This is enough to be sent to you")
REFUND_NOT_FOUND = ProblemType("refund_not_found", 404, "There is no such refund")
REFUND_NOT_RETRYABLE = ProblemType("refund_not_retryable", 409, "There is nothing to try again for this refund")
WITHDRAWAL_INVALID = ProblemType("withdrawal_invalid", 409, "This withdrawal code can not be used")
REFUND_IN_PROGRESS = ProblemType("refund_in_progress", 409, "A refund is on its way already")
DESTINATION_INVALID = ProblemType("destination_invalid", 422, "The refund's destination can not be read")
DESTINATION_WRONG_AMOUNT = ProblemType(
    "destination_wrong_amount", 422, "The refund invoice asks for another amount than is owed"
)
DESTINATION_EXPIRED = ProblemType("destination_expired", 422, "The refund invoice has expired")
DESTINATION_WRONG_NETWORK = ProblemType("destination_wrong_network", 422, "The refund invoice is for another network")
DESTINATION_OWN_NODE = ProblemType(
    "destination_own_node", 422, "The refund invoice is payable to this gateway's own node"
)
DESTINATION_USED = ProblemType("destination_used", 409, "This invoice was used for a refund before")
DESTINATION_TIMELOCK = ProblemType("destination_timelock", 422, "The refund invoice could lock up money for too long")
DESTINATION_ADDRESS_FORBIDDEN = ProblemType(
    "destination_address_forbidden", 422, "The refund's address is not one that the gateway asks"
)
DESTINATION_AMOUNT_OUT_OF_RANGE = ProblemType(
    "destination_amount_out_of_range", 422, "The refund's address does not take this amount"
)
DESTINATION_UNUSABLE = ProblemType("destination_unusable", 422, "The refund's address gave no usable invoice")
DESTINATION_UNREACHABLE = ProblemType("destination_unreachable", 503, "The refund's address does not answer just now")

IDENTITY_INVALID = ProblemType("identity_invalid", 401, "The identity is not proved")
CHALLENGE_INVALID = ProblemType("identity_challenge_invalid", 401, "This login challenge can not be used")
NOSTR_EVENT_REPLAYED = ProblemType("nostr_event_replayed", 401, "This signed event was used before")
TOO_MANY_LOGINS = ProblemType("too_many_logins", 429, "Too many logins are under way")

PAYMENT_REQUIRED = ProblemType("payment_required", 402, "Pay the invoice first, then ask with its token and preimage")
BALANCE_TOO_LOW = ProblemType("balance_too_low", 402, "The session's balance does not cover this request")
MAX_SATS_EXCEEDED = ProblemType("max_sats_exceeded", 422, "The request may cost more than you allow")
WORK_FAILED = ProblemType("work_failed", 502, "The work failed; nothing was charged")
ANSWER_INTERRUPTED = ProblemType("answer_interrupted", 502, "The answer broke off; what was said is charged")
WORK_NOT_IN_SESSIONS = ProblemType("work_not_in_sessions", 409, "This work is sold as a job only")
SESSION_NOT_FOUND = ProblemType("session_not_found", 404, "There is no such session")
SESSION_NOT_ACTIVE = ProblemType("session_not_active", 409, "The session can not be used like that now")
REFUND_KEY_INVALID = ProblemType("refund_key_invalid", 403, "A destination needs the session's refundKey")

WEBHOOK_NOT_FOUND = ProblemType("webhook_not_found", 404, "There is no such endpoint or delivery")
WEBHOOK_SIGNATURE = ProblemType("webhook_signature_invalid", 401, "The webhook is not signed, or too old")
UNKNOWN_INVOICE = ProblemType("unknown_invoice", 404, "This gateway did not issue that invoice")
NOT_SETTLED = ProblemType("not_settled", 409, "The node does not say that this invoice is settled")
NOT_AVAILABLE = ProblemType("not_available", 404, "This is not switched on here")
INTERNAL = ProblemType("internal_error", 500, "Something is wrong on our side")

ALL: tuple[ProblemType, ...] = tuple(value for value in dict(globals()).values() if isinstance(value, ProblemType))
