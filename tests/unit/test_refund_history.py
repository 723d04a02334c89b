"""How far the node's history is known to reach when a send is counted."""

from __future__ import annotations

import pytest

from gateway.refunds.history import KnownHistory, Reached
from gateway.refunds.sends import Flight
from ledger.money import Msat
from lightning.fake import OTHER_PUBKEY, OWN_PUBKEY, FakeNode
from lightning.types import Failed, FailureReason, InFlight, NodeUnavailable, NotFound, Settled, Unknown


class CountingNode(FakeNode):
    """Its highest index is what the test says; readings are counted."""

    highest = 5
    readings = 0

    async def highest_payment_index(self) -> int:
        self._require_up()
        self.readings += 1
        return self.highest


@pytest.fixture
def node() -> CountingNode:
    return CountingNode()


async def test_one_reading_serves_many_sends(node: CountingNode) -> None:
    history = KnownHistory(node)
    assert [await history.reached() for _ in range(3)] == [Reached(OWN_PUBKEY, 5)] * 3
    assert node.readings == 1


@pytest.mark.parametrize(
    ("outcome", "highest"),
    [
        (Settled(bytes(32), Msat(1000), Msat(0), 9), 9),
        (Failed(FailureReason.NO_ROUTE, 7), 7),
        (Failed(FailureReason.NO_ROUTE, 3), 5),
        (InFlight(), 5),
        (NotFound(), 5),
    ],
)
async def test_what_payments_show_raises_it_and_never_lowers_it(
    node: CountingNode, outcome: Settled | Failed | InFlight | NotFound, highest: int
) -> None:
    history = KnownHistory(node)
    await history.reached()
    history.saw(outcome)
    assert await history.reached() == Reached(OWN_PUBKEY, highest)
    assert node.readings == 1


async def test_it_is_read_again_once_the_node_said_nothing(node: CountingNode) -> None:
    history = KnownHistory(node)
    await history.reached()
    history.saw(Unknown("the stream broke"))
    node.highest = 8
    assert await history.reached() == Reached(OWN_PUBKEY, 8)


async def test_another_nodes_history_is_its_own(node: CountingNode) -> None:
    history = KnownHistory(node)
    await history.reached()
    node.pubkey, node.highest = OTHER_PUBKEY, 2
    assert await history.reached() == Reached(OTHER_PUBKEY, 2)


async def test_a_node_that_is_away_makes_no_reading(node: CountingNode) -> None:
    history = KnownHistory(node)
    node.go_unavailable()
    with pytest.raises(NodeUnavailable):
        await history.reached()
    node.come_back()
    assert await history.reached() == Reached(OWN_PUBKEY, 5)


def test_a_groups_sends_count_for_each_other_and_none_for_itself() -> None:
    flight = Flight(100, {"again"})
    assert (flight.others_sats("again", 40), flight.others_sats("new", 40)) == (60, 100)
    flight.join("new", 40)
    flight.join("again", 40)
    assert (flight.others_sats("third", 1), flight.others_sats("new", 40)) == (140, 100)
