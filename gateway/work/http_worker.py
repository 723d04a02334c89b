"""The `http` worker: the operator's own service does the work and says what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.catalogue.json_values import JsonLimits, json_fault
from gateway.catalogue.model import HttpWork
from gateway.work.signed_post import Question, SignedPost
from gateway.work.worker import Done, WorkFailed, WorkOrder
from ledger.money import MAX_SATS

RESULT_LIMITS = JsonLimits(depth=64, values=200_000)
ASKED = "The service that does this work"


@dataclass(frozen=True, slots=True)
class HttpWorker:
    """`POST url` with `{jobId, work, input, maxCostSats}`, answered by `200 {result, costSats}`.

    The `Idempotency-Key` is the job's id, the `webhook-id` the job and its attempt.
    """

    post: SignedPost

    async def run(self, order: WorkOrder) -> Done | WorkFailed:
        if not isinstance(order.work, HttpWork):
            raise TypeError(f"{order.work.name} is no http work")
        content = {
            "jobId": order.job_id,
            "work": order.work.name,
            "input": dict(order.input),
            "maxCostSats": order.max_cost_sats,
        }
        message_id = f"{order.job_id}.{order.attempt}"
        question = Question(order.work.url, content, order.job_id, message_id, order.work.timeout_s, ASKED)
        answer = await self.post.ask(question)
        return answer if isinstance(answer, WorkFailed) else read_answer(answer.value)


def read_answer(answer: Any) -> Done | WorkFailed:
    """`{result, costSats}`, the cost a whole number of sats from 0; anything else is a failure of the work."""
    if not isinstance(answer, dict) or "result" not in answer:
        return WorkFailed(f"{ASKED} answered without a result.")
    cost_sats = answer.get("costSats")
    if type(cost_sats) is not int or not 0 <= cost_sats <= MAX_SATS:
        return WorkFailed(f"{ASKED} did not say what it cost.")
    if json_fault(answer["result"], RESULT_LIMITS):
        return WorkFailed(f"{ASKED} answered with something that cannot be kept.")
    return Done(answer["result"], cost_sats)
