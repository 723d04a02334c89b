"""What travels: camelCase, strict, unknown members refused. Amounts in integer sats; what is not known is absent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, RootModel, StrictBool, StrictStr
from pydantic.alias_generators import to_camel

Sats = Annotated[int, Field(ge=0, strict=True, description="An amount in whole satoshi.")]


def _rfc3339(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[datetime, PlainSerializer(_rfc3339, return_type=str, when_used="json")]


class Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    def wire(self) -> dict[str, Any]:
        """As JSON values; what is not known is absent, not null."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class OpenAiModel(BaseModel):
    """Of the endpoint that speaks OpenAI's language: snake_case, and members that we do not name."""

    model_config = ConfigDict(extra="allow", frozen=True)


class ChatRequest(OpenAiModel):
    model: str = Field(description="The name of a work of the catalogue whose worker is `openai`; see GET /v1/models.")
    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: bool = False
    max_tokens: int | None = Field(default=None, ge=1)
    max_sats: int | None = Field(default=None, ge=0, description="Refused beforehand if it may cost more.")


class ChatView(OpenAiModel):
    """A chat completion as the model's server gave it; streamed, `data:` lines that end with `[DONE]`."""

    choices: list[dict[str, Any]]


class ModelListView(OpenAiModel):
    object: Literal["list"]
    data: list[dict[str, Any]]


class OpenAiErrorView(OpenAiModel):
    """`error`: `message`, `type`, `code`; a 402 also has an `invoice`, and `missingSats` or a `token`."""

    error: dict[str, Any]


class EstimateRequest(Model):
    work: StrictStr = Field(max_length=64, description="The name of a work of the catalogue.")
    input: dict[StrictStr, Any] = Field(description="What the work is to be done on; see the work's inputSchema.")


class EstimateView(Model):
    work: str
    estimate_sats: Sats = Field(description="The most that this input may cost.")
    serve: Literal["free", "partial", "gate"]
    absorb_sats: Sats = Field(description="What the pool would pay.")
    charge_sats: Sats = Field(description="What the invoice would ask for.")
    reason: str
    evaluation_fee_sats: Sats | None = Field(
        default=None, description="What a look at the input costs before its price, at most the estimate, is fixed."
    )


class CappedRequest(EstimateRequest):
    max_sats: Sats | None = Field(
        default=None, description="Refused if it may cost more; never charged more. Also as header X-Max-Sats."
    )


class JobRequest(CappedRequest):
    refund_to: StrictStr | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="A BOLT11 invoice without an amount, a Lightning Address or an LNURL; paid by itself when owed.",
    )


class InvoiceView(Model):
    payment_request: str
    payment_hash: str
    amount_sats: Sats
    expires_at: Time
    state: Literal["open", "settled", "canceled"]
    amount_paid_sats: Sats | None = None


class EvaluationView(Model):
    """The look at the input before its price is fixed; what it cost and who paid is known once it was answered."""

    fee_sats: Sats
    outcome: Literal["accepted", "rejected", "failed"] | None = None
    charged_sats: Sats | None = None
    absorbed_sats: Sats | None = None


class JobView(Model):
    id: str
    work: str
    state: Literal[
        "awaiting_eval_payment",
        "evaluating",
        "awaiting_work_payment",
        "executing",
        "complete",
        "failed",
        "rejected",
        "expired",
    ]
    serve: Literal["free", "partial", "gate"]
    estimate_sats: Sats
    absorb_sats: Sats
    work_amount_sats: Sats
    evaluation: EvaluationView | None = None
    invoice: InvoiceView | None = None
    result: Any | None = None
    actual_cost_sats: Sats | None = None
    absorbed_sats: Sats | None = None
    user_charge_sats: Sats | None = None
    refund_state: Literal["none", "pending", "paying", "paid"]
    refund_amount_sats: Sats = Field(description="The open sum of the refunds, or the total once nothing is owed.")
    refund_donated_sats: Sats | None = Field(
        default=None,
        description="What of it was given to the free pool instead of being sent; refundState is paid then.",
    )
    refund_to: str | None = Field(default=None, description="The destination on file for what is owed back.")
    refund_problem: str | None = Field(
        default=None, description="Why a refund waits, or why its last send failed; in plain words."
    )
    failure_reason: str | None = None
    created_at: Time
    updated_at: Time


class CreatedJobView(JobView):
    token: str = Field(description="Opens this job: Authorization: Bearer <token>. Not shown again elsewhere.")


class RefundRequest(Model):
    destination: StrictStr = Field(
        min_length=1,
        max_length=4096,
        description="A BOLT11 invoice (exact, or without an amount), Lightning Address or LNURL.",
    )


class SessionRequest(Model):
    deposit_sats: Annotated[int, Field(strict=True, ge=1, le=100_000_000, description="What to pay in first.")]
    refund_to: StrictStr | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="Where the rest goes at the end: a BOLT11 invoice without an amount, Lightning Address or LNURL.",
    )


class SessionView(Model):
    id: str
    state: Literal["awaiting_deposit", "active", "closing", "closed", "expired"]
    balance_sats: Sats = Field(description="What can still be spent.")
    held_sats: Sats = Field(description="Set aside for requests that run now.")
    deposit_sats: Sats
    pubkey: str | None = Field(default=None, description="The identity that opened it: its tier applies.")
    invoice: InvoiceView | None = Field(default=None, description="The newest one that can be paid.")
    refund_state: Literal["none", "pending", "paying", "paid"]
    refund_amount_sats: Sats = Field(description="The open sum of the refunds, or the total once all are paid.")
    refund_to: str | None = Field(default=None, description="The destination on file for what is owed back.")
    refund_problem: str | None = Field(default=None, description="Why a pending refund waits, in plain words.")
    created_at: Time
    updated_at: Time


class CreatedSessionView(SessionView):
    token: str = Field(description="Spends the balance: Authorization: Bearer <token>. Not shown again elsewhere.")
    refund_key: str = Field(description="Names a destination for the rest. Keep it apart from the token.")


class SessionWorkRequest(CappedRequest):
    """Runs now, paid from the balance."""


class SessionResultView(Model):
    id: str
    result: Any
    serve: Literal["free", "partial", "gate"]
    estimate_sats: Sats
    actual_cost_sats: Sats
    absorbed_sats: Sats = Field(description="What the pool paid of the actual cost.")
    charged_sats: Sats
    balance_sats: Sats = Field(description="What could be spent when it had ended.")


class SessionTopupRequest(Model):
    amount_sats: Annotated[int, Field(strict=True, ge=1, le=100_000_000)]


class SessionTopupView(Model):
    invoice: InvoiceView
    state: Literal["active"]
    balance_sats: Sats


class CloseRequest(Model):
    destination: StrictStr | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="Where the rest goes; needs refundKey. Without it: to the session's refundTo, if there is one.",
    )
    refund_key: StrictStr | None = Field(default=None, max_length=256)


class ReceiptPayment(Model):
    payment_hash: str
    purpose: Literal["work", "evaluation"]
    amount_sats: Sats
    at: Time


class ReceiptRefund(Model):
    amount_sats: Sats
    state: Literal["pending", "paying", "paid", "donated"]
    payment_hash: str | None = Field(default=None, description="Of the payment that brought it back.")
    at: Time | None = None


class ReceiptView(Model):
    """Who paid what. youPaid = youWereCharged + refunded + owedBack (and what was donated, or is below a sat)."""

    issuer: str
    job_id: str
    work: str
    state: str
    estimate_sats: Sats
    actual_cost_sats: Sats
    you_paid_sats: Sats
    you_were_charged_sats: Sats
    pool_paid_sats: Sats
    refunded_sats: Sats
    owed_back_sats: Sats
    payments: list[ReceiptPayment]
    refunds: list[ReceiptRefund]
    ordered_at: Time
    as_of: Time


class SignedReceiptView(Model):
    """`signature` (BIP-340, by `pubkey`) is of `sha256`, the hash of `receipt` as RFC 8785 writes it."""

    receipt: ReceiptView
    algorithm: Literal["BIP-340"]
    pubkey: str
    sha256: str
    signature: str


class ReceiptKeyView(Model):
    algorithm: Literal["BIP-340"]
    pubkey: str


class StatementLine(Model):
    number: int = Field(description="Without a gap.")
    kind: Literal["deposit", "topup", "request", "refund", "sub_sat"]
    subject: str = Field(description="A payment hash, a request's id, or what a refund is for.")
    change_sats: int
    balance_sats: Sats = Field(description="After it, what is held for running requests included.")
    at: Time
    work: str | None = None
    state: str | None = Field(default=None, description="Of the request, or of the refund.")
    serve: Literal["free", "partial", "gate"] | None = None
    estimate_sats: Sats | None = None
    actual_cost_sats: Sats | None = None
    absorbed_sats: Sats | None = Field(default=None, description="Granted by the pool.")
    failure_reason: str | None = None


class StatementView(Model):
    """paidIn = charged + refunded + balance + held (but for what is below a sat)."""

    balance_sats: Sats
    held_sats: Sats
    paid_in_sats: Sats
    charged_sats: Sats
    absorbed_sats: Sats
    refunded_sats: Sats
    items: list[StatementLine]
    next: str | None = Field(default=None, description="Give it as `after` for the next page.")


class RefundLnurlView(Model):
    lnurl: str = Field(description="LNURL-withdraw: shown as a QR code, a wallet fetches what is owed.")
    url: str = Field(description="The same, decoded.")
    amount_sats: Sats
    expires_at: Time


class WithdrawRequestView(Model):
    """LUD-03; amounts in millisatoshi."""

    tag: Literal["withdrawRequest"]
    callback: str
    k1: str
    default_description: str
    min_withdrawable: int
    max_withdrawable: int
    balance_check: str


class LnurlStatusView(Model):
    status: Literal["OK", "ERROR"]
    reason: str | None = None


class WithdrawView(RootModel[WithdrawRequestView | LnurlStatusView]):
    """What there is to fetch, or why there is nothing."""


class RefundRetryView(Model):
    id: str
    job_id: str
    amount_sats: Sats
    refund_to: str


class ReconciliationView(Model):
    """Amounts in msat; what is unknown is null, never 0."""

    known: bool
    clean: bool
    why_unknown: str | None
    book_msat: int
    node_msat: int | None
    settled_msat: int | None
    paid_out_msat: int | None
    fees_msat: int | None
    under_way_msat: int | None
    difference_msat: int | None
    differences: list[dict[str, Any]]
    repaired: list[dict[str, Any]]


class WorkView(Model):
    name: str
    title: str
    description: str | None = None
    worker: str
    price: dict[str, Any]
    evaluation_fee_sats: Sats | None = None
    input_schema: dict[str, Any]
    example: dict[str, Any] | None = None


class WorksView(Model):
    works: list[WorkView]


class DonationRequest(Model):
    amount_sats: Annotated[int, Field(strict=True, ge=1, le=100_000_000)]


class DonationView(Model):
    invoice: InvoiceView


class TopupRequest(Model):
    amount_sats: Annotated[int, Field(strict=True, ge=1, le=2_100_000_000_000_000)]


class IdentityChange(Model):
    tier: StrictStr | None = Field(default=None, max_length=64, description="null: back to what was earned")
    blocked: StrictBool | None = None


class OperatorIdentityView(Model):
    pubkey: str
    tier: str | None = None
    operator_tier: str | None = None
    blocked: bool
    paid_sats: Sats


class WebhookRequest(Model):
    url: StrictStr = Field(max_length=2048, description="Where events are posted to; http or https.")
    events: list[Annotated[StrictStr, Field(max_length=64)]] = Field(
        default=["*"], min_length=1, max_length=50, description="Types as `job.complete`, or `job.*`, `refund.*`, `*`."
    )


class WebhookChange(Model):
    url: StrictStr | None = Field(default=None, max_length=2048)
    events: list[Annotated[StrictStr, Field(max_length=64)]] | None = Field(default=None, min_length=1, max_length=50)
    enabled: StrictBool | None = None


class WebhookView(Model):
    id: str
    url: str
    events: list[str]
    enabled: bool
    disabled_reason: str | None = None
    created_at: Time


class CreatedWebhookView(WebhookView):
    secret: str = Field(description="`whsec_…`: verify with any Standard Webhooks library. Not shown again.")


class WebhookDeliveryView(Model):
    id: str
    state: Literal["pending"]


class PageView(Model):
    items: list[dict[str, Any]]
    next: str | None = Field(default=None, description="Give it as `after` for the next page.")


class PoolView(Model):
    balance_sats: Sats = Field(description="What can still be reserved.")
    reserved_sats: Sats
    absorbed_today_sats: Sats


class ChallengeView(Model):
    challenge: str = Field(description="Goes into the tag `challenge` of a signed event of kind 22242; used once.")
    expires_at: Time
    relay: str = Field(description="Goes into the event's tag `relay`: this gateway's public address.")


class VerifyRequest(Model):
    event: dict[StrictStr, Any] = Field(description="The signed Nostr event, kind 22242.")


class IdentityTokenView(Model):
    token: str = Field(description="Authorization: Bearer <token>. Not shown again.")
    pubkey: str
    expires_at: Time


class IdentityView(Model):
    pubkey: str
    tier: str | None = None
    daily_limit_sats: Sats
    absorbed_today_sats: Sats
    reserved_sats: Sats


class InvoiceSettledData(BaseModel):
    """Unknown members are ignored: a newer watcher may say more."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    payment_hash: StrictStr = Field(pattern="^[0-9a-f]{64}$")
    amount_paid_msat: Annotated[int, Field(strict=True, ge=0)]
    settle_index: Annotated[int, Field(strict=True, ge=0)]
    settled_at: datetime


class InvoiceSettledEvent(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: Literal["invoice.settled"]
    timestamp: datetime
    data: InvoiceSettledData


class HealthView(Model):
    status: Literal["ok"]


class ReadyView(Model):
    status: Literal["ready"]
    network: str
    block_height: int


class ProblemView(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str
    detail: str | None = None
