"""What sats are worth in the operator's fiat currency, in the reader's language, beside them. Empty when unknown."""

from __future__ import annotations

import re
from decimal import Decimal

from babel.numbers import format_currency, get_currency_precision
from markupsafe import Markup

from gateway.fiat.rate import Rate
from gateway.pages.language import gettext as _
from gateway.pages.language import isolated, spoken, utc

_CODE_THEN_DIGIT = re.compile(r"(?<=[A-Za-z])(?=[0-9])")


def fiat_of(amount_sats: int | None, rate: Rate | None) -> str:
    """`≈ €0.42`, `< €0.01`; empty for no sats and without a rate. Pure but for the language."""
    if rate is None or not amount_sats:
        return ""
    least = Decimal(1).scaleb(-get_currency_precision(rate.currency))
    worth = rate.of(amount_sats)
    sign, shown = ("<", least) if worth < least else ("≈", worth)
    return isolated(f"{sign} {_money(shown, rate.currency)}")


def fiat_note(rate: Rate | None) -> str:
    """Whose rate it is, and of when; empty without one."""
    if rate is None:
        return ""
    price, time = isolated(_money(rate.per_bitcoin, rate.currency)), utc(rate.at)
    if not rate.source:
        return _("One bitcoin is %(price)s (%(time)s). Only sats are charged.", price=price, time=time)
    return _(
        "One bitcoin is %(price)s, says %(source)s (%(time)s). Only sats are charged.",
        price=price,
        source=rate.source,
        time=time,
    )


def fiat_beside(amount_sats: int | None, rate: Rate | None) -> Markup:
    """The same as markup that stands right behind the sats: its own space before, the source as title."""
    words = fiat_of(amount_sats, rate)
    if not words:
        return Markup()
    return Markup(' <span class="fiat" title="{}">{}</span>').format(fiat_note(rate), words)


def _money(amount: Decimal, currency: str) -> str:
    """`€0.42`, `CHF 0.42`: a code keeps its distance."""
    text = format_currency(amount, currency, locale=spoken().locale)
    return _CODE_THEN_DIGIT.sub("\u00a0", text)
