"""Work that holds the event loop lets others at it in between."""

import asyncio
from itertools import pairwise

import pytest

from api.turns import Turns


async def test_another_round_of_the_loop_comes_between_two_turns() -> None:
    turns, order = Turns(), []

    async def hold(number: int) -> None:
        async with turns.next():
            order.append(f"piece {number}")

    async def pass_by() -> None:
        for _ in range(6):
            order.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(*(hold(number) for number in range(3)), pass_by())
    pieces = [place for place, done in enumerate(order) if done.startswith("piece")]
    assert [order[place] for place in pieces] == ["piece 0", "piece 1", "piece 2"]
    assert all("other" in order[before:after] for before, after in pairwise(pieces))


async def test_a_piece_that_fails_or_is_cancelled_leaves_the_turn_to_the_next() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="no batch"):
        async with turns.next():
            raise ValueError("no batch")

    async def wait() -> None:
        async with turns.next():
            pass

    async with asyncio.timeout(5):
        async with turns.next():
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await wait()
