"""A result as a person can use it: a file to download, a text to read, or JSON. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from gateway.pages.language import gettext as _
from gateway.pages.language import ngettext, number

_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
_UNSAFE_IN_NAMES = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]+')
_CONTENT_KEYS = ("base64", "contentBase64", "data", "content")


@dataclass(frozen=True, slots=True)
class Shown:
    """`text` is what the page shows (empty for a file), `facts` are short values that stand beside a file."""

    kind: Literal["file", "text", "json"]
    body: bytes
    media_type: str
    filename: str
    text: str = ""
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def disposition(self) -> str:
        """`Content-Disposition`: always a download, its name safe in ASCII and whole in UTF-8 (RFC 6266)."""
        plain = self.filename.encode("ascii", "replace").decode().replace("?", "_")
        return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(self.filename, safe='')}"

    @property
    def size(self) -> str:
        if len(self.body) < 1024:
            return ngettext("%(number)s byte", "%(number)s bytes", len(self.body), number=number(len(self.body)))
        return _("%(number)s KB", number=number(round(len(self.body) / 1024)))


def shown(result: Any) -> Shown:
    if isinstance(result, dict):
        file = _file(result)
        if file is not None:
            return file
        if isinstance(result.get("text"), str):
            return _text(result["text"])
    if isinstance(result, str):
        return _text(result)
    text = json.dumps(result, ensure_ascii=False, indent=2)
    return Shown("json", text.encode(), "application/json", "result.json", text)


def _text(text: str) -> Shown:
    return Shown("text", text.encode(), "text/plain", "result.txt", text)


def _file(result: dict[str, Any]) -> Shown | None:
    media_type = result.get("mediaType")
    key = next((key for key in _CONTENT_KEYS if isinstance(result.get(key), str)), None)
    if key is None or not isinstance(media_type, str) or not _MEDIA_TYPE.fullmatch(media_type.lower()):
        return None
    try:
        body = base64.b64decode(result[key], validate=True)
    except (binascii.Error, ValueError):
        return None
    facts = tuple(
        (name.replace("_", " ").capitalize(), number(value) if isinstance(value, int) else value)
        for name, value in result.items()
        if name not in (key, "mediaType", "filename") and isinstance(value, int | str) and len(str(value)) <= 80
    )
    return Shown("file", body, media_type.lower(), _safe_name(result.get("filename")), facts=facts)


def _safe_name(name: Any) -> str:
    if not isinstance(name, str):
        return "result"
    return _UNSAFE_IN_NAMES.sub("_", name).strip(" .")[:120] or "result"
