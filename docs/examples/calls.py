"""The calls of a gateway that the examples make; nothing but Python's own library. Takes URL from the environment."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

URL = os.environ.get("URL", "http://127.0.0.1:8420")


class Refused(Exception):
    """The gateway's own words; `code` is stable, `body` has what belongs to it."""

    def __init__(self, status: int, headers: Mapping[str, str], body: dict[str, Any]) -> None:
        super().__init__(body.get("detail") or body.get("title") or str(body))
        self.status, self.headers, self.body = status, headers, body
        self.code = body.get("code")


def call(method: str, path: str, body: Any = None, **headers: str) -> Any:
    """Say headers with _ for -. Raises Refused."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        named["Content-Type"] = "application/json"
    sent = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, sent, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=700) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise Refused(error.code, error.headers, json.load(error)) from None


def bearer(token: str) -> str:
    return f"Bearer {token}"
