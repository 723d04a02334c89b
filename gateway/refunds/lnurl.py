"""Lightning Address (LUD-16) and LNURL-pay (LUD-01, LUD-06): from a text to an invoice over exactly what is owed.

The invoice is then checked and pinned like any other. Nothing here runs inside a transaction.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import bech32

from gateway import problems
from gateway.outgoing import BadAnswer, FetchFailed, Forbidden, check_url, fetch_json, is_allowed
from gateway.problems import Problem
from ledger.money import whole_sats
from lightning.types import PaymentRequest

_ADDRESS = re.compile(r"([a-z0-9._+-]{1,64})@([a-z0-9.-]{1,253}(?::[0-9]{1,5})?)")
MAX_LNURL_LENGTH = 2048


@dataclass(frozen=True, slots=True)
class PayOffer:
    """What the other side said of itself (LUD-06), not yet asked for an invoice."""

    callback: str
    min_msat: int
    max_msat: int
    metadata: str

    @property
    def metadata_hash(self) -> bytes:
        return hashlib.sha256(self.metadata.encode()).digest()


def is_address(text: str) -> bool:
    """A Lightning Address or an LNURL, right or wrong: it gives a new invoice each time. Pure."""
    plain = _plain(text)
    return plain.lower().startswith("lnurl1") or _ADDRESS.fullmatch(plain.lower()) is not None


def _plain(text: str) -> str:
    return re.sub("^lightning:", "", text.strip(), flags=re.IGNORECASE)


def pay_url(text: str, allow_hosts: tuple[str, ...]) -> str | None:
    """The address to ask, or None if the text is neither. Pure. Raises Problem: it is one, but a wrong one."""
    plain = _plain(text)
    if plain.lower().startswith("lnurl1"):
        url = _decoded(plain)
    elif match := _ADDRESS.fullmatch(plain.lower()):
        name, host = match.groups()
        listed = is_allowed(urlsplit(f"http://{host}"), allow_hosts)
        url = f"{'http' if listed else 'https'}://{host}/.well-known/lnurlp/{name}"
    else:
        return None
    try:
        check_url(url, allow_hosts)
    except Forbidden as error:
        raise Problem(problems.DESTINATION_ADDRESS_FORBIDDEN, str(error)) from None
    return url


def read_offer(answer: dict[str, Any]) -> PayOffer:
    """Pure. Raises BadAnswer."""
    _refuse_error(answer)
    callback, low, high, metadata = (answer.get(k) for k in ("callback", "minSendable", "maxSendable", "metadata"))
    if answer.get("tag") != "payRequest" or not isinstance(callback, str) or not isinstance(metadata, str):
        raise BadAnswer("It is not an address that can be paid to.")
    if type(low) is not int or type(high) is not int or not 0 < low <= high:
        raise BadAnswer("It does not say what amounts it takes.")
    try:
        urlsplit(callback)
    except ValueError:
        raise BadAnswer("Its callback is not a web address.") from None
    return PayOffer(callback, low, high, metadata)


def refuse_out_of_range(offer: PayOffer, amount_msat: int) -> None:
    """Pure. Raises Problem."""
    if not offer.min_msat <= amount_msat <= offer.max_msat:
        raise Problem(
            problems.DESTINATION_AMOUNT_OUT_OF_RANGE,
            f"It takes {-(-offer.min_msat // 1000)} to {offer.max_msat // 1000} sats, "
            f"owed are {whole_sats(amount_msat)} sats. Your refund waits.",
        )


def callback_url(offer: PayOffer, amount_msat: int) -> str:
    """Pure. The callback's own parameters are kept, but an `amount` of its own."""
    parts = urlsplit(offer.callback)
    query = [(key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if key != "amount"]
    return parts._replace(query=urlencode([*query, ("amount", str(amount_msat))]), fragment="").geturl()


def refuse_other_invoice(offer: PayOffer, request: PaymentRequest, amount_msat: int) -> None:
    """LUD-06: exactly the amount, and the hash of the metadata that was shown. Pure. Raises Problem."""
    if request.amount_msat != amount_msat:
        raise Problem(problems.DESTINATION_UNUSABLE, "Its invoice asks for another amount than it was asked for.")
    if request.description_hash != offer.metadata_hash:
        raise Problem(problems.DESTINATION_UNUSABLE, "Its invoice is not for the metadata that it showed.")


async def ask_invoice(url: str, amount_msat: int, allow_hosts: tuple[str, ...]) -> tuple[PayOffer, str]:
    """The offer and the invoice text, still to be decoded and compared. Raises Problem."""
    try:
        offer = read_offer(await fetch_json(url, allow_hosts))
        refuse_out_of_range(offer, amount_msat)
        answer = await fetch_json(callback_url(offer, amount_msat), allow_hosts)
        _refuse_error(answer)
    except Forbidden as error:
        raise Problem(problems.DESTINATION_ADDRESS_FORBIDDEN, str(error)) from None
    except BadAnswer as error:
        raise Problem(problems.DESTINATION_UNUSABLE, str(error)) from None
    except FetchFailed as error:
        raise Problem(problems.DESTINATION_UNREACHABLE, f"{error} Your refund waits.") from None
    invoice = answer.get("pr")
    if not isinstance(invoice, str):
        raise Problem(problems.DESTINATION_UNUSABLE, "It gave no invoice.")
    return offer, invoice


def _refuse_error(answer: dict[str, Any]) -> None:
    if str(answer.get("status", "")).upper() == "ERROR":
        raise BadAnswer(f"It says: {str(answer.get('reason', 'no'))[:200]}")


def _decoded(text: str) -> str:
    """LUD-01. Raises Problem."""
    hrp, words = bech32.bech32_decode(text) if len(text) <= MAX_LNURL_LENGTH else (None, None)
    data = bech32.convertbits(words, 5, 8, False) if hrp == "lnurl" and words else None
    try:
        return bytes(data or b"").decode("ascii") if data else _not_lnurl()
    except UnicodeDecodeError:
        return _not_lnurl()


def _not_lnurl() -> str:
    raise Problem(problems.DESTINATION_INVALID, "This is not an LNURL that can be read. Copy it again, whole.")
