"""What asyncio needs beside the client: trackers, and callbacks that run on a loop."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Callable

from llm_auto_optimizer._config import Config
from llm_auto_optimizer._tracker import BaseTracker

logger = logging.getLogger("llm_auto_optimizer")


class AsyncRequestTracker(BaseTracker):
    """What `AsyncOptimizerClient.track_request` gives, for `async with`: as `RequestTracker`, but for the
    configuration, which is awaited."""

    def __init__(self, *, fetch: Callable[[], Awaitable[Config]], **reporting: Any) -> None:
        super().__init__(**reporting)
        self._fetch = fetch

    async def get_config(self) -> Config:
        """The configuration for this call, fetched on first use for the tracker's service and unit."""
        if self._config is None:
            self._config = await self._fetch()
        return self._config

    async def __aenter__(self) -> AsyncRequestTracker:
        self.begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(error)


def on_loop(callback: Callable[[Config], Any]) -> Callable[[Config], None]:
    """`callback` as other threads may call it: it runs on the present loop, its coroutine as a task."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def call(config: Config) -> None:
        try:
            outcome = callback(config)
            if inspect.isawaitable(outcome):
                await outcome
        except Exception:
            logger.exception("a callback of subscribe_config_updates failed")

    def begin(config: Config) -> None:
        task = loop.create_task(call(config))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def hand_over(config: Config) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(begin, config)

    return hand_over
