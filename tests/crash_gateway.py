"""`python -m tests.crash_gateway serve`: the gateway as it is, its money coroutines wrapped (tests/crash.py)."""

from __future__ import annotations

import gateway.reconcile.run
import gateway.serve  # noqa: F401 - everything is imported before it is wrapped
from gateway.cli import main
from tests.crash import wrap_all

if __name__ == "__main__":
    wrap_all()
    main()
