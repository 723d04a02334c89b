"""The most that an input may cost: the price shown before paying, and the cap of the run. Pure; no float."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.catalogue.model import CommandWork, CpuPrice, HttpWork, OpenAiWork, PdfWork, TokenPrice, WorkEntry
from gateway.work.chat_input import chat_messages, output_tokens_at_most
from gateway.work.pdf_layout import pages_at_most

TOKENS_PER_REQUEST = 64
TOKENS_PER_MESSAGE = 16
"""What a model's chat template adds around the messages, counted generously."""


def estimate_sats(entry: WorkEntry, input: Mapping[str, Any]) -> int:
    """Whole sats, at least 1, rounded up. The input has passed `validate_input`."""
    match entry:
        case HttpWork():
            return entry.price.estimate_sats
        case OpenAiWork():
            output_tokens = output_tokens_at_most(input, entry.price.max_output_tokens)
            return max(1, token_cost_sats(entry.price, input_tokens_at_most(input), output_tokens))
        case PdfWork():
            return pages_at_most(input) * entry.price.per_page_sats
        case CommandWork():
            return entry.price.per_cpu_second_sats * entry.price.max_cpu_s


def token_cost_sats(price: TokenPrice, input_tokens: int, output_tokens: int) -> int:
    """Input and output together, rounded up once."""
    thousandths = input_tokens * price.per_1k_input_tokens_sats + output_tokens * price.per_1k_output_tokens_sats
    return -(-thousandths // 1000)


def cpu_cost_sats(price: CpuPrice, cpu_us: int) -> int:
    """Of processor time in microseconds, rounded up once."""
    return -(-cpu_us * price.per_cpu_second_sats // 1_000_000)


def input_tokens_at_most(input: Mapping[str, Any]) -> int:
    """A token holds at least one byte of text, so the bytes of the messages bound their tokens."""
    messages = chat_messages(input)
    text_bytes = len(json.dumps(messages, ensure_ascii=False).encode())
    return text_bytes + TOKENS_PER_MESSAGE * len(messages) + TOKENS_PER_REQUEST
