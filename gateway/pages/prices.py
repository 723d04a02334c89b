"""Prices in words. Pure."""

from __future__ import annotations

from gateway.catalogue.model import CpuPrice, FlatPrice, PagePrice, TokenPrice
from gateway.pages.language import gettext as _
from gateway.pages.language import number, sats


def price_words(price: FlatPrice | TokenPrice | PagePrice | CpuPrice) -> str:
    """`3 sats a page`: what stands beside a work's title."""
    match price:
        case FlatPrice():
            return _("at most %(sats)s", sats=sats(price.estimate_sats))
        case PagePrice():
            return _("%(sats)s a page", sats=sats(price.per_page_sats))
        case CpuPrice():
            return _(
                "%(sats)s a second of processor time, at most %(seconds)s seconds",
                sats=sats(price.per_cpu_second_sats),
                seconds=price.max_cpu_s,
            )
        case TokenPrice():
            asked, answered = price.per_1k_input_tokens_sats, price.per_1k_output_tokens_sats
            return _(
                "%(asked)s for %(thousand)s tokens in, %(answered)s for %(thousand)s tokens out",
                asked=sats(asked),
                answered=sats(answered),
                thousand=number(1000),
            )


def one_price(price: FlatPrice | TokenPrice | PagePrice | CpuPrice) -> int | None:
    """The sats that `price_words` names, if its words end in what one amount is for."""
    match price:
        case FlatPrice():
            return price.estimate_sats
        case PagePrice():
            return price.per_page_sats
        case CpuPrice() | TokenPrice():
            return None
