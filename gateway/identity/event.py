"""A signed Nostr event (NIP-01): read, and believed only when its id and its signature are right. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import coincurve

HEX_32 = re.compile("[0-9a-f]{64}")
HEX_64 = re.compile("[0-9a-f]{128}")
MAX_KIND = 65_535


class InvalidEvent(ValueError):
    """Why the event proves nothing, as a whole sentence for its sender."""


@dataclass(frozen=True, slots=True)
class Event:
    """`created_at_s`: seconds since 1970, by the signer's clock."""

    id: str
    pubkey: str
    created_at_s: int
    kind: int
    tags: tuple[tuple[str, ...], ...]
    content: str

    def tag(self, name: str) -> str | None:
        """The value of that tag; None without one. Raises InvalidEvent when it stands twice or holds no value."""
        found = [tag for tag in self.tags if tag[0] == name]
        if not found:
            return None
        if len(found) > 1:
            raise InvalidEvent(f"The tag {name} stands more than once.")
        if len(found[0]) < 2:
            raise InvalidEvent(f"The tag {name} has no value.")
        return found[0][1]

    def required_tag(self, name: str) -> str:
        value = self.tag(name)
        if value is None:
            raise InvalidEvent(f"The tag {name} is missing.")
        return value


def read_event(value: Any) -> Event:
    """The event that parsed JSON holds; unknown members are not signed and not read. Raises InvalidEvent."""
    if not isinstance(value, dict):
        raise InvalidEvent("The event must be a JSON object.")
    event = Event(
        id=_hex(value, "id", HEX_32),
        pubkey=_hex(value, "pubkey", HEX_32),
        created_at_s=_whole(value, "created_at"),
        kind=_whole(value, "kind"),
        tags=_tags(value.get("tags")),
        content=_text(value, "content"),
    )
    signature = _hex(value, "sig", HEX_64)
    if event.kind > MAX_KIND:
        raise InvalidEvent(f"The event's kind must be at most {MAX_KIND}.")
    if event.id != event_id(event.pubkey, event.created_at_s, event.kind, event.tags, event.content):
        raise InvalidEvent("The event's id is not the SHA-256 of its contents.")
    if not signed_by(event.pubkey, event.id, signature):
        raise InvalidEvent("The event's signature is not its pubkey's.")
    return event


def event_id(pubkey: str, created_at_s: int, kind: int, tags: Sequence[Sequence[str]], content: str) -> str:
    """SHA-256 (hex) of the canonical serialisation. The text must be encodable as UTF-8."""
    signed = [0, pubkey, created_at_s, kind, [list(tag) for tag in tags], content]
    return hashlib.sha256(json.dumps(signed, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def signed_by(pubkey: str, message: str, signature: str) -> bool:
    """Whether BIP-340 `signature` is `pubkey`'s over the 32 bytes of `message`; all three in hex of right length."""
    try:
        key = coincurve.PublicKeyXOnly(bytes.fromhex(pubkey))
    except ValueError:
        return False
    return bool(key.verify(bytes.fromhex(signature), bytes.fromhex(message)))


def _hex(value: dict[str, Any], name: str, form: re.Pattern[str]) -> str:
    text = _text(value, name)
    if not form.fullmatch(text):
        digits = 128 if form is HEX_64 else 64
        raise InvalidEvent(f"The event's {name} must be {digits} lower-case hex digits.")
    return text


def _text(value: dict[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str):
        raise InvalidEvent(f"The event's {name} must be a string.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidEvent(f"The event's {name} is not Unicode text.") from None
    return text


def _whole(value: dict[str, Any], name: str) -> int:
    number = value.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise InvalidEvent(f"The event's {name} must be a whole number, 0 or more.")
    return number


def _tags(value: Any) -> tuple[tuple[str, ...], ...]:
    if not isinstance(value, list):
        raise InvalidEvent("The event's tags must be a list.")
    for tag in value:
        if not isinstance(tag, list) or not tag or not all(isinstance(part, str) for part in tag):
            raise InvalidEvent("Each tag of the event must be a list of strings, and not empty.")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidEvent("A tag of the event is not Unicode text.") from None
    return tuple(tuple(tag) for tag in value)
