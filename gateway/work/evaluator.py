"""The evaluator: the operator's own service looks at an input and says whether it is taken, and its price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.catalogue.model import WorkEntry
from gateway.work.signed_post import Question, SignedPost
from gateway.work.worker import WorkFailed

ASKED = "The service that looks at this input"
NOT_TAKEN = "This input is not taken."
MAX_REASON_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Look:
    """One run. `cap_sats`: the catalogue's estimate; `attempt` counts from 1."""

    job_id: str
    work: WorkEntry
    input: Mapping[str, Any]
    cap_sats: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Accepted:
    estimate_sats: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """`reason` is shown to the payer."""

    reason: str


class Evaluator(Protocol):
    async def look(self, look: Look) -> Accepted | Rejected | WorkFailed: ...


@dataclass(frozen=True, slots=True)
class HttpEvaluator:
    """`POST url` with `{jobId, work, input}`, answered by `200 {accept, estimateSats?, reason?}`.

    The `Idempotency-Key` is `evaluation-<job's id>`: a service that does both may keep both answers by their keys.
    """

    post: SignedPost

    async def look(self, look: Look) -> Accepted | Rejected | WorkFailed:
        service = look.work.evaluation
        if service is None:
            return WorkFailed("This work is no longer evaluated.", by_worker=False)
        content = {"jobId": look.job_id, "work": look.work.name, "input": dict(look.input)}
        key = f"evaluation-{look.job_id}"
        answer = await self.post.ask(
            Question(service.url, content, key, f"{key}.{look.attempt}", service.timeout_s, ASKED)
        )
        return answer if isinstance(answer, WorkFailed) else read_verdict(answer.value, look.cap_sats)


def read_verdict(answer: Any, cap_sats: int) -> Accepted | Rejected | WorkFailed:
    """`{accept, estimateSats?, reason?}`; an absent estimate is the catalogue's. Pure.

    A price above the catalogue's estimate is no answer: the buyer was promised that it is never more.
    """
    if not isinstance(answer, dict) or type(answer.get("accept")) is not bool:
        return WorkFailed(f"{ASKED} did not say whether it is taken.")
    if not answer["accept"]:
        return _rejected(answer.get("reason"))
    estimate_sats = cap_sats if answer.get("estimateSats") is None else answer["estimateSats"]
    if type(estimate_sats) is not int or not 1 <= estimate_sats <= cap_sats:
        return WorkFailed(f"{ASKED} named a price that is not between 1 and {cap_sats} sats.")
    return Accepted(estimate_sats)


def _rejected(reason: Any) -> Rejected | WorkFailed:
    if reason is None:
        return Rejected(NOT_TAKEN)
    if not isinstance(reason, str) or "\x00" in reason or any("\ud800" <= letter <= "\udfff" for letter in reason):
        return WorkFailed(f"{ASKED} gave a reason that can not be read.")
    return Rejected(reason.strip()[:MAX_REASON_CHARACTERS] or NOT_TAKEN)
