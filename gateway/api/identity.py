"""The handlers of identities: a challenge, a token for its signature, and who that is."""

from __future__ import annotations

from aiohttp import web

from gateway import problems
from gateway.api.access import client_address
from gateway.api.body import read_model, read_raw
from gateway.api.jobs import json_response
from gateway.api.models import ChallengeView, IdentityTokenView, IdentityView, VerifyRequest
from gateway.context import GATEWAY
from gateway.identity import identify
from gateway.identity.caller import CHALLENGE
from gateway.identity.login import log_in, new_challenge
from gateway.jobs.gate import standing
from gateway.problems import Problem


async def identity_challenge(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    made = await new_challenge(gateway, client_address(request, gateway.settings.trusted_proxies))
    view = ChallengeView(challenge=made.challenge, expires_at=made.expires_at, relay=made.relay)
    return json_response(view.wire())


async def identity_verify(request: web.Request) -> web.Response:
    asked, _ = await read_model(request, VerifyRequest)
    login = await log_in(request.app[GATEWAY], asked.event)
    view = IdentityTokenView(token=login.token, pubkey=login.pubkey, expires_at=login.expires_at)
    return json_response(view.wire())


async def get_identity(request: web.Request) -> web.Response:
    caller = await identify(request.app[GATEWAY], request, await read_raw(request))
    if caller is None:
        raise Problem(
            problems.CREDENTIAL_REQUIRED, "Send an identity's token, or a signed Nostr event.", headers=CHALLENGE
        )
    stands = await standing(request.app[GATEWAY], caller.pubkey)
    view = IdentityView(
        pubkey=caller.pubkey,
        tier=stands.tier,
        daily_limit_sats=stands.daily_limit_sats,
        absorbed_today_sats=stands.used.absorbed_sats,
        reserved_sats=stands.used.reserved_sats,
    )
    return json_response(view.wire())
