"""What changes in the database between a send and the gateway's word of it."""

from __future__ import annotations

from typing import Any

import pytest

from lightning.types import PaymentOutcome
from tests.web.conftest import Web


def at_the_send(web: Web, monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    """The database is changed by this before the gateway hears anything of its send."""
    send = web.node.send_payment

    async def send_then_change(payment_request: str, **limits: Any) -> PaymentOutcome:
        outcome = await send(payment_request, **limits)
        await web.gateway.pool.execute(statement)
        return outcome

    monkeypatch.setattr(web.node, "send_payment", send_then_change)
