"""Reading server-sent events from a served application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from httpx_sse import EventSource, ServerSentEvent


class Received:
    """What a stream has brought, in order."""

    def __init__(self, source: EventSource) -> None:
        self._events = source.aiter_sse()
        self.response = source.response

    async def next(self) -> ServerSentEvent:
        """The next event, which must come soon."""
        async with asyncio.timeout(10):
            return await anext(self._events)

    async def take(self, number: int) -> list[ServerSentEvent]:
        """The next so many."""
        return [await self.next() for _ in range(number)]

    async def rest(self) -> list[ServerSentEvent]:
        """Everything until the server ends the stream."""
        async with asyncio.timeout(10):
            return [event async for event in self._events]


@asynccontextmanager
async def streaming(client: httpx.AsyncClient, path: str, **options: Any) -> AsyncIterator[Received]:
    """An open stream."""
    async with client.stream("GET", path, **options) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Received(EventSource(response))
