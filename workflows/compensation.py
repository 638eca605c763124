"""The one way in which compensation is run."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def run_to_the_end(undo: Callable[[], Awaitable[T]]) -> T:
    """Run `undo` to its end, whatever cancellation arrives meanwhile, and give what it gave.

    A bare `await asyncio.shield(...)` would return at the cancellation and leave what comes after it
    undone. Here the undo runs in a task of its own, and the wait for it is taken up again.
    """
    task = asyncio.ensure_future(undo())
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
    return task.result()
