"""What a run hands to its client, who may be slow, leave, or never read."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.v1.hand_over import WAITING_CHUNKS, HandOver
from tests.waiting import PATIENCE_S

Chunk = dict[str, Any]


async def says(hand_over: HandOver, count: int) -> None:
    for number in range(count):
        await hand_over.put({"number": number})
    hand_over.end()


async def heard(hand_over: HandOver) -> list[int]:
    return [chunk["number"] async for chunk in hand_over.chunks()]


async def test_all_is_handed_over_in_order() -> None:
    hand_over = HandOver()
    async with asyncio.timeout(PATIENCE_S):
        _, numbers = await asyncio.gather(says(hand_over, 300), heard(hand_over))
    assert (numbers, hand_over.cut_off) == (list(range(300)), False)


async def test_what_fits_waits_for_a_client_after_the_end() -> None:
    hand_over = HandOver(0.01)
    await says(hand_over, WAITING_CHUNKS)
    assert (await heard(hand_over), hand_over.cut_off) == (list(range(WAITING_CHUNKS)), False)


async def test_a_client_that_never_reads_is_given_up_and_the_run_ends() -> None:
    hand_over = HandOver(0.01)
    async with asyncio.timeout(PATIENCE_S):
        await says(hand_over, 10 * WAITING_CHUNKS)
        assert await heard(hand_over) == []
    assert hand_over.cut_off


async def test_one_that_reads_a_chunk_now_and_then_wins_no_time_by_it() -> None:
    hand_over = HandOver(0.3)
    run = asyncio.create_task(says(hand_over, 10 * WAITING_CHUNKS))
    taken = []

    async def dribble() -> None:
        async for chunk in hand_over.chunks():
            taken.append(chunk)
            await asyncio.wait({run}, timeout=0.1)

    async with asyncio.timeout(PATIENCE_S):
        await dribble()
        await run
    assert hand_over.cut_off
    assert len(taken) < WAITING_CHUNKS


async def test_a_run_that_waits_for_room_goes_on_when_its_client_leaves() -> None:
    hand_over = HandOver(PATIENCE_S)
    run = asyncio.create_task(says(hand_over, 10 * WAITING_CHUNKS))
    chunks = hand_over.chunks()
    await anext(chunks)
    await chunks.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(PATIENCE_S):
        await run
    assert not hand_over.cut_off
