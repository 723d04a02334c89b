"""What an event must say to stand for a call (NIP-98) or for a login (kind 22242). Pure; unknown tags are ignored."""

from __future__ import annotations

import hashlib

from gateway.identity.event import Event, InvalidEvent

HTTP_AUTH_KIND = 27_235
LOGIN_KIND = 22_242
HTTP_FRESH_S = 60
LOGIN_FRESH_S = 600


def check_http_auth(event: Event, *, url: str, method: str, body: bytes, now_s: int) -> None:
    """Raises InvalidEvent unless the event was signed for this very call, within a minute of `now_s`.

    `url`: public address, path and query, compared exactly. With a body its hash must be signed too.
    """
    _require_kind(event, HTTP_AUTH_KIND)
    _require_fresh(event, HTTP_FRESH_S, now_s)
    if event.required_tag("u") != url:
        raise InvalidEvent(f"The tag u must be {url}.")
    if event.required_tag("method").upper() != method:
        raise InvalidEvent(f"The tag method must be {method}.")
    payload = event.tag("payload")
    if payload is None and body:
        raise InvalidEvent("The tag payload is missing: with a body, its SHA-256 must be signed.")
    if payload is not None and payload != hashlib.sha256(body).hexdigest():
        raise InvalidEvent("The tag payload is not the SHA-256 (hex) of the request's body.")


def check_login(event: Event, *, relay: str, now_s: int) -> str:
    """The challenge that a login event answers; whether it is ours, the database says. Raises InvalidEvent."""
    _require_kind(event, LOGIN_KIND)
    _require_fresh(event, LOGIN_FRESH_S, now_s)
    if event.required_tag("relay") != relay:
        raise InvalidEvent(f"The tag relay must be {relay}.")
    return event.required_tag("challenge")


def _require_kind(event: Event, kind: int) -> None:
    if event.kind != kind:
        raise InvalidEvent(f"The event's kind must be {kind}.")


def _require_fresh(event: Event, within_s: int, now_s: int) -> None:
    if abs(now_s - event.created_at_s) > within_s:
        raise InvalidEvent(
            f"The event's created_at must be within {within_s} seconds of our clock, which says {now_s}."
        )
