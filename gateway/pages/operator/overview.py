"""`/operator`: how the gateway stands. What the node does not say is shown as unknown, never as zero."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web

from gateway.api.system import pool_view
from gateway.context import GATEWAY, Gateway
from gateway.metrics import Metrics
from gateway.operator.sessions import tries_of_late
from gateway.pages.operator.access import show_or_fragment
from gateway.pages.operator.solvency import cover, solvency
from ledger import sql
from lightning.node import Node
from lightning.types import ChannelBalance, Liquidity, NodeInfo, NodeUnavailable

_q = sql.load("gateway.pages.operator", "operator.sql")

NODE_S = 4.0
"""A page does not wait longer for the node."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """Each by itself: None is unknown, and `why` says why the first one is."""

    info: NodeInfo | None
    balance: ChannelBalance | None
    liquidity: Liquidity | None
    why: str


async def page(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    node, books = await asyncio.gather(node_facts(gateway.node), _books(gateway))
    balances = {row["code"]: row["balance_msat"] for row in books["balances"]}
    stands = solvency(balances)
    at_hand_msat = node.balance.local_msat if node.balance else None
    context = {
        "node": node,
        "stands": stands,
        "at_hand_msat": at_hand_msat,
        "cover": cover(stands.owed_msat + stands.promised_msat, at_hand_msat),
        "unbooked": unbooked(gateway.metrics) if node.info else None,
        **books,
    }
    return show_or_fragment(request, "overview.html", "overview_facts.html", context)


async def node_facts(node: Node) -> NodeFacts:
    """Three questions at once. A macaroon that may not ask one of them leaves that one unknown."""
    info, balance, liquidity = await asyncio.gather(
        _known(node.get_info()), _known(node.channel_balance()), _known(node.liquidity())
    )
    whys = [answer for answer in (info, balance, liquidity) if isinstance(answer, str)]
    return NodeFacts(
        info if isinstance(info, NodeInfo) else None,
        balance if isinstance(balance, ChannelBalance) else None,
        liquidity if isinstance(liquidity, Liquidity) else None,
        whys[0] if whys else "",
    )


async def _known(question: Awaitable[T]) -> T | str:
    """The answer, or why there is none."""
    try:
        async with asyncio.timeout(NODE_S):
            return await question
    except NodeUnavailable as error:
        return str(error)
    except TimeoutError:
        return f"it did not answer within {NODE_S:g} seconds"


async def _books(gateway: Gateway) -> dict[str, Any]:
    """What the database says, as of one moment."""
    async with gateway.pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        facts: dict[str, Any] = {
            "balances": await conn.fetch(_q.balances),
            "refunds": {row["state"]: row for row in await conn.fetch(_q.refunds_by_state)},
            "frozen": await conn.fetch(_q.frozen_attempts),
            "open_invoices": await conn.fetchrow(_q.open_invoices),
            "parked": await conn.fetchval(_q.parked_events),
        }
    return facts | {"pool": await pool_view(gateway), "tries": await tries_of_late(gateway.pool)}


def unbooked(metrics: Metrics) -> int | None:
    """Settled at the node and not booked, as the last look-up sweep of this process found; None before the first."""
    value = metrics.registry.get_sample_value("boltworks_settled_unbooked")
    return int(value) if metrics.swept and value is not None else None
