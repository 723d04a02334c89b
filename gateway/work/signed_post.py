"""A question to a service of the operator's own: signed, bounded, asked again when the way there failed."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from standardwebhooks import Webhook

from gateway.work.http_answers import (
    RETRY_DELAYS_S,
    TRANSPORT_FAULTS,
    AnswerTooLong,
    pause_before_retry,
    read_bounded,
    strict_json,
)
from gateway.work.worker import WorkFailed

_LOG = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 8 * 1024 * 1024
CONNECT_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Question:
    """`key` is the `Idempotency-Key`, `message_id` the `webhook-id`; both stay the same when it is asked again."""

    url: str
    content: Mapping[str, Any]
    key: str
    message_id: str
    timeout_s: float
    asked: str
    """Who is asked, as a payer reads it: `The service that …`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 with a JSON value."""

    value: Any


@dataclass(frozen=True, slots=True)
class SignedPost:
    """POST with a Standard Webhooks signature, made anew for each attempt.

    A refusal or a wrong answer is a failure at once. A transport fault is tried again, up to three times.
    """

    session: aiohttp.ClientSession
    signer: Webhook
    retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S
    max_answer_bytes: int = MAX_ANSWER_BYTES

    async def ask(self, question: Question) -> Answer | WorkFailed:
        body = json.dumps(question.content, ensure_ascii=False, allow_nan=False)
        tries = 0
        while True:
            tries += 1
            try:
                return await self._once(question, body)
            except TRANSPORT_FAULTS as fault:
                about = {"message_id": question.message_id, "try": tries}
                _LOG.warning("service not reached: %s", type(fault).__name__, extra=about)
                if not await pause_before_retry(self.retry_delays_s, tries):
                    return WorkFailed(f"{question.asked} could not be reached.")

    async def _once(self, question: Question, body: str) -> Answer | WorkFailed:
        async with self.session.post(
            question.url,
            data=body.encode(),
            headers=self._headers(question, body),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=question.timeout_s, connect=CONNECT_TIMEOUT_S),
        ) as response:
            if response.status != 200:
                return WorkFailed(f"{question.asked} refused it (HTTP {response.status}).")
            try:
                return Answer(strict_json(await read_bounded(response, self.max_answer_bytes)))
            except AnswerTooLong:
                return WorkFailed(f"{question.asked} answered with too much.")
            except ValueError:
                return WorkFailed(f"{question.asked} did not answer in JSON.")

    def _headers(self, question: Question, body: str) -> dict[str, str]:
        now = datetime.now(UTC)
        return {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Idempotency-Key": question.key,
            "webhook-id": question.message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self.signer.sign(question.message_id, now, body),
        }
