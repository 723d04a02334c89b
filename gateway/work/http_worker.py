"""The `http` worker: the operator's own service does the work and says what it cost."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from standardwebhooks import Webhook

from gateway.catalogue.json_values import JsonLimits, json_fault
from gateway.catalogue.model import HttpWork
from gateway.work.http_answers import (
    RETRY_DELAYS_S,
    TRANSPORT_FAULTS,
    AnswerTooLong,
    pause_before_retry,
    read_bounded,
    strict_json,
)
from gateway.work.worker import Done, WorkFailed, WorkOrder
from ledger.money import MAX_SATS

_LOG = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 8 * 1024 * 1024
CONNECT_TIMEOUT_S = 10
RESULT_LIMITS = JsonLimits(depth=64, values=200_000)


@dataclass(frozen=True, slots=True)
class HttpWorker:
    """`POST url` with `{jobId, work, input, maxCostSats}`, answered by `200 {result, costSats}`.

    A refusal or a wrong answer fails the work at once. A transport fault is tried again, up to three times,
    with the same `Idempotency-Key` (the job's id) and the same `webhook-id` (job and attempt), signed anew.
    """

    session: aiohttp.ClientSession
    signer: Webhook
    retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S
    max_answer_bytes: int = MAX_ANSWER_BYTES

    async def run(self, order: WorkOrder) -> Done | WorkFailed:
        if not isinstance(order.work, HttpWork):
            raise TypeError(f"{order.work.name} is no http work")
        question = {
            "jobId": order.job_id,
            "work": order.work.name,
            "input": dict(order.input),
            "maxCostSats": order.max_cost_sats,
        }
        body = json.dumps(question, ensure_ascii=False, allow_nan=False)
        tries = 0
        while True:
            tries += 1
            try:
                return await self._ask(order, order.work, body)
            except TRANSPORT_FAULTS as fault:
                _LOG.warning(
                    "worker not reached: %s", type(fault).__name__, extra={"job_id": order.job_id, "try": tries}
                )
                if not await pause_before_retry(self.retry_delays_s, tries):
                    return WorkFailed("The service that does this work could not be reached.")

    async def _ask(self, order: WorkOrder, work: HttpWork, body: str) -> Done | WorkFailed:
        async with self.session.post(
            work.url,
            data=body.encode(),
            headers=self._headers(order, body),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=work.timeout_s, connect=CONNECT_TIMEOUT_S),
        ) as response:
            if response.status != 200:
                return WorkFailed(f"The service that does this work refused it (HTTP {response.status}).")
            try:
                answer = strict_json(await read_bounded(response, self.max_answer_bytes))
            except AnswerTooLong:
                return WorkFailed("The service that does this work answered with too much.")
            except ValueError:
                return WorkFailed("The service that does this work did not answer in JSON.")
        return read_answer(answer)

    def _headers(self, order: WorkOrder, body: str) -> dict[str, str]:
        message_id = f"{order.job_id}.{order.attempt}"
        now = datetime.now(UTC)
        return {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Idempotency-Key": order.job_id,
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self.signer.sign(message_id, now, body),
        }


def read_answer(answer: Any) -> Done | WorkFailed:
    """`{result, costSats}`, the cost a whole number of sats from 0; anything else is a failure of the work."""
    if not isinstance(answer, dict) or "result" not in answer:
        return WorkFailed("The service that does this work answered without a result.")
    cost_sats = answer.get("costSats")
    if type(cost_sats) is not int or not 0 <= cost_sats <= MAX_SATS:
        return WorkFailed("The service that does this work did not say what it cost.")
    if json_fault(answer["result"], RESULT_LIMITS):
        return WorkFailed("The service that does this work answered with something that cannot be kept.")
    return Done(answer["result"], cost_sats)
