"""What other parts of the gateway say in English, for the API and the logs, in the language of the page.

A constant sentence is looked up as it is. One with values in it is known again by its form below, also when it was
stored long ago. A sentence that nobody knows (a worker's, a wallet's) stays as it is.
"""

from __future__ import annotations

import re

from gateway.pages.language import gettext, number

LONGEST = 600
"""Characters; whatever is longer is none of ours."""


def N_(message: str) -> str:
    """Marks a text for the catalogue; it is translated where it is shown."""
    return message


STORED = (
    N_("The payment found no way through in time."),
    N_("There is no route to this wallet, or none within the fee limit."),
    N_("The wallet refused the payment: it does not know this invoice."),
    N_("The gateway's node can not send this much just now."),
    N_("The payment failed."),
    N_("The invoice expired before the refund could be sent."),
    N_("This invoice was used on the gateway's node before."),
    N_("Another destination was given."),
    N_("The node knows invoices that this database lacks (an older backup?): it may have been paid already."),
    N_(
        "Today's budget for routing fees is used up: no route to this wallet is free, or as cheap as what is left. "
        "There is a new one tomorrow (UTC)."
    ),
    N_(
        "Today's budget for routing fees to this wallet's node is used up: no route to it is free, "
        "or as cheap as what is left. There is a new one tomorrow (UTC)."
    ),
    N_("The gateway has no room for more just now."),
    N_("Its run has not ended yet. Try again in a few seconds."),
    N_("This kind of invoice (AMP, or without a payment address) can not be paid; make an ordinary one."),
)
"""Sentences that are kept in the database or in a variable."""

FORMS = (
    N_("Refunds begin at %(least_sats)s sats; %(owed_sats)s are owed. They stay on account here, as yours."),
    N_("%(owed_sats)s sats are owed; refunds begin at %(least_sats)s. Take them."),
    N_("It takes %(least_sats)s to %(most_sats)s sats, owed are %(owed_sats)s sats. Your refund waits."),
    N_(
        "The invoice asks for %(asked_sats)s sats, owed are %(owed_sats)s sats. "
        "Make an invoice over %(right_sats)s sats, or one without an amount."
    ),
    N_("The request may cost %(cost_sats)s sats, %(left_sats)s can be spent. Top up and repeat."),
    N_("The invoice is for %(network)s, this gateway is on %(own)s."),
    N_("It is valid for too long; make one that expires within %(days)s days."),
    N_("Its final time lock is %(blocks)s blocks, at most %(most)s are accepted."),
    N_("The work you bought failed several times in a row. Try again in %(seconds)s s; nothing was charged."),
    N_("%(count)s invoices to your address are unpaid. Pay one, cancel one, or wait."),
    N_("At most %(kib)s KiB are read."),
    N_("Its node says: %(reason)s."),
    N_("It says: %(reason)s"),
    N_("It answered with status %(status)s."),
    N_("It is %(state)s: open a new one."),
    N_("It is %(state)s."),
    N_("%(why)s Your refund waits."),
    N_("This must have %(least)s or more characters."),
    N_("This must have at most %(most)s characters."),
    N_("This must have %(least)s or more items."),
    N_("This must have at most %(most)s items."),
    N_("This must have %(least)s or more members."),
    N_("This must have at most %(most)s members."),
    N_("This must match %(pattern)s."),
    N_("This must be one of %(choices)s."),
    N_("This must be %(least)s or more."),
    N_("This must be at most %(most)s."),
    N_("This must be more than %(bound)s."),
    N_("This must be less than %(bound)s."),
    N_("This must be a multiple of %(step)s."),
    N_("This must be %(one)s or %(other)s."),
    N_("This must be %(what)s."),
    N_("This is not known here; known are %(known)s."),
    N_("This needs exactly one of %(names)s."),
    N_("This needs at least one of %(names)s."),
    N_("This is nested deeper than %(levels)s levels."),
    N_("Has more than %(values)s values."),
    N_("This does not fit the schema's %(keyword)s."),
    N_(
        "The character %(shown)s at position %(place)s is not in the fonts; "
        "Latin, Greek, Cyrillic, Armenian and Georgian text and common symbols are."
    ),
)
"""The first that fits is taken. Values whose name ends in `_sats` are written with the language's thousands."""

WORDS_IN_FORMS = (
    N_("a text"),
    N_("a whole number"),
    N_("a number"),
    N_("an object"),
    N_("a list"),
    N_("complete"),
    N_("executing"),
    N_("failed"),
    N_("expired"),
    N_("rejected"),
    N_("evaluating"),
    N_("closing"),
    N_("closed"),
    N_("This is missing."),
    N_("This is not known here."),
    N_("This must not be blank."),
    N_("This must not have an item twice."),
    N_("This must not contain the character U+0000."),
    N_("This must not contain half of a surrogate pair."),
    N_("This is nested too deeply for its schema."),
)
"""Values that are words, and what the input's check says without any."""

_PLACE = re.compile(r"%\((\w+)\)s")


def _read(form: str) -> re.Pattern[str]:
    """Splitting at the places leaves texts and names in turn."""
    parts = _PLACE.split(form)
    return re.compile(
        "".join(f"(?P<{part}>.+?)" if at % 2 else re.escape(part) for at, part in enumerate(parts)), re.DOTALL
    )


_FORMS = tuple((_read(form), form) for form in FORMS)


def in_words(text: str) -> str:
    """The sentence in the page's language, as far as it is known. Pure but for the language."""
    known = gettext(text)
    if known != text or not text or len(text) > LONGEST:
        return known
    for form, message in _FORMS:
        if found := form.fullmatch(text):
            return gettext(message, **{name: _value(name, value) for name, value in found.groupdict().items()})
    return text


def _value(name: str, value: str) -> str:
    if name.endswith("_sats") and value.isascii() and value.isdigit():
        return number(int(value))
    return in_words(value) if name == "why" else gettext(value)
