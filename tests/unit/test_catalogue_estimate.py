"""The cap of a price: whole sats, at least one, rounded up, never below what the run can cost."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.catalogue import load_catalogue
from gateway.catalogue.estimate import cpu_cost_sats, estimate_sats, input_tokens_at_most, token_cost_sats
from gateway.catalogue.model import CommandWork, HttpWork, OpenAiWork, PdfWork, TokenPrice
from gateway.work.pdf_layout import pages_at_most


def chat(input_sats: int = 2, output_sats: int = 6, max_tokens: int = 1024) -> OpenAiWork:
    price = {
        "per_1k_input_tokens_sats": input_sats,
        "per_1k_output_tokens_sats": output_sats,
        "max_output_tokens": max_tokens,
    }
    table = {"name": "chat", "worker": "openai", "base_url": "http://127.0.0.1/v1", "model": "m", "price": price}
    return OpenAiWork.model_validate(table)


def test_flat_price() -> None:
    table = {"name": "a", "worker": "http", "url": "http://127.0.0.1/", "price": {"estimate_sats": 42}}
    assert estimate_sats(HttpWork.model_validate(table), {"any": "thing"}) == 42


@pytest.mark.parametrize(
    ("cpu_us", "cost_sats"), [(0, 0), (1, 1), (200_000, 1), (200_001, 2), (1_000_000, 5), (20_000_000, 100)]
)
def test_processor_time_rounds_up_once_and_its_limit_is_the_estimate(cpu_us: int, cost_sats: int) -> None:
    price = {"per_cpu_second_sats": 5, "max_cpu_s": 20}
    entry = CommandWork.model_validate({"name": "a", "worker": "command", "command": ["wc"], "price": price})
    assert estimate_sats(entry, {"any": "thing"}) == 100
    assert cpu_cost_sats(entry.price, cpu_us) == cost_sats


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "cost_sats"),
    [(0, 0, 0), (1, 0, 1), (500, 0, 1), (501, 0, 2), (0, 1000, 6), (250, 250, 2), (251, 250, 3), (10**9, 0, 2 * 10**6)],
)
def test_tokens_cost_together_and_round_up_once(input_tokens: int, output_tokens: int, cost_sats: int) -> None:
    assert token_cost_sats(chat().price, input_tokens, output_tokens) == cost_sats


def test_every_byte_of_a_message_may_be_a_token() -> None:
    assert input_tokens_at_most({"prompt": "é" * 1000}) >= 2000


def test_a_shorter_answer_is_cheaper_and_the_limit_holds() -> None:
    whole = estimate_sats(chat(), {"prompt": "a"})
    assert estimate_sats(chat(), {"prompt": "a", "max_tokens": 10}) < whole
    assert estimate_sats(chat(), {"prompt": "a", "max_tokens": 999_999}) == whole
    assert type(estimate_sats(chat(), {"prompt": "a", "max_tokens": 10.0})) is int


def test_at_least_a_sat() -> None:
    assert estimate_sats(chat(1, 1, 1), {"prompt": "a", "max_tokens": 1}) == 1


def test_pages() -> None:
    table = {"name": "a", "worker": "pdf", "price": {"per_page_sats": 7}}
    work_input: dict[str, Any] = {"markdown": "Hello"}
    assert estimate_sats(PdfWork.model_validate(table), work_input) == 7 * pages_at_most(work_input)


def test_the_packaged_example_has_a_price() -> None:
    entry = load_catalogue(None).works[0]
    assert entry.example is not None
    assert estimate_sats(entry, entry.example) == 30


def test_a_price_has_no_float() -> None:
    for field in TokenPrice.model_fields.values():
        assert field.annotation is int
