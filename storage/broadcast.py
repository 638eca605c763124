"""Telling every waiting task of this process that something has changed."""

import asyncio


class Broadcast:
    """Whoever waits takes `next()` first, then looks, then waits: so no change is missed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def next(self) -> asyncio.Event:
        """An event that the next change sets."""
        return self._event

    def tell(self) -> None:
        """Wake everybody who waits."""
        self._event.set()
        self._event = asyncio.Event()
