"""Who may hold the event loop for long."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Turns:
    """Of the work that came at once and holds the event loop, one piece is done in each round of the loop.

    The intake's writer goes to PostgreSQL and back several times a commit. It would otherwise wait each time
    until every batch is decoded, and PostgreSQL with it; so would whoever reads a configuration.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def next(self) -> AsyncIterator[None]:
        """Wait for a turn; it ends with the block, which awaits nothing, and a round of the loop."""
        async with self._lock:
            yield
            await asyncio.sleep(0)
