"""Who is asking: Nostr keys, by a signed event on the call itself or by a token got with one."""

from __future__ import annotations

from gateway.identity.caller import Caller, identify, record_event, record_event_again

__all__ = ["Caller", "identify", "record_event", "record_event_again"]
