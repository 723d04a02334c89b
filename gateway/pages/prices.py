"""Prices in words. Pure."""

from __future__ import annotations

from gateway.catalogue.model import CpuPrice, FlatPrice, PagePrice, TokenPrice
from gateway.pages.rendering import sats


def price_words(price: FlatPrice | TokenPrice | PagePrice | CpuPrice) -> str:
    """`3 sats a page`: what stands beside a work's title."""
    match price:
        case FlatPrice():
            return f"at most {sats(price.estimate_sats)}"
        case PagePrice():
            return f"{sats(price.per_page_sats)} a page"
        case CpuPrice():
            return f"{sats(price.per_cpu_second_sats)} a second of processor time, at most {price.max_cpu_s} seconds"
        case TokenPrice():
            asked, answered = price.per_1k_input_tokens_sats, price.per_1k_output_tokens_sats
            return f"{sats(asked)} for 1,000 tokens in, {sats(answered)} for 1,000 tokens out"
