"""`python -m tests.session_crash_gateway serve`: the gateway as it is, its sessions' coroutines wrapped."""

from __future__ import annotations

import gateway.serve  # noqa: F401 - everything is imported before it is wrapped
from gateway.cli import main
from tests import crash

MONEY = {
    "begin": ("gateway.sessions.request", "begin"),
    "end": ("gateway.sessions.request", "end"),
    "close": ("gateway.sessions.close", "close"),
    "finish": ("gateway.sessions.close", "finish"),
}

if __name__ == "__main__":
    crash.MONEY = MONEY
    crash.wrap_all()
    main()
