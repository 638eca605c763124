"""Published events as this process hears of them: the newest in memory, the others from PostgreSQL."""

import asyncio
import contextlib
import logging
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import islice

from redis.asyncio import Redis

from domain.errors import DatabaseError
from storage import event_log, publisher
from storage.broadcast import Broadcast
from storage.changefeed import ChangeFeed
from storage.database import Database
from storage.fanout import FanOut, PublishedEvent, published
from storage.tasks import stop

KEPT = 5_000
PAGE = 500
# What Redis does not bring within this time is read from PostgreSQL.
GRACE_SECONDS = 0.2
POLL_SECONDS = 2.0
RETRY_SECONDS = 1.0

log = logging.getLogger(__name__)


class EventFeed:
    """Publishes what this process sees committed, and follows the log.

    `changed` tells of new events. Reads name a position, so that a slow reader costs no memory here.
    """

    def __init__(self, database: Database, redis: Redis | None) -> None:
        self._database = database
        self._redis = redis
        self._recent: deque[PublishedEvent] = deque(maxlen=KEPT)
        self._position: int | None = None
        self._reading = asyncio.Lock()
        self.changed = Broadcast()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the log while the block runs. PostgreSQL need not be there yet."""
        task = asyncio.create_task(self._run(), name="event-feed")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def end(self) -> int:
        """The position of the newest event, after whatever was committed before this.

        Raises:
            DatabaseError: PostgreSQL is out of reach.
        """
        await publisher.publish_all(self._database)
        async with self._database.transaction() as session:
            return await event_log.end(session)

    async def after(self, position: int) -> Sequence[PublishedEvent]:
        """The next events after a position, some hundreds at most.

        Raises:
            DatabaseError: they are no longer in memory and PostgreSQL is out of reach.
        """
        if self._position is None or position >= self._position:
            return ()
        recent = self._recent
        if recent and recent[0].position <= position + 1:
            first = bisect_right(recent, position, key=lambda event: event.position)
            return list(islice(recent, first, first + PAGE))
        async with self._database.transaction() as session:
            return [published(event) for event in await event_log.after(session, position, limit=PAGE)]

    async def _run(self) -> None:
        while True:
            try:
                self._position = await self.end()
                self.changed.tell()
                break
            except DatabaseError:
                await asyncio.sleep(RETRY_SECONDS)
        fan_out = FanOut(self._redis, self._database) if self._redis is not None else None
        async with ChangeFeed(self._database) as feed:
            work = [
                publisher.run(self._database, fan_out, feed.event("events")),
                self._follow(feed.event(event_log.PUBLISHED), patient=fan_out is not None),
            ]
            if fan_out is not None:
                work.append(self._hear(fan_out))
            tasks = [asyncio.create_task(each) for each in work]
            try:
                await asyncio.gather(*tasks)
            finally:
                await stop(tasks)

    async def _hear(self, fan_out: FanOut) -> None:
        async for batch in fan_out.batches():
            self._append(batch)

    async def _follow(self, woken: asyncio.Event, *, patient: bool) -> None:
        """Read what was published, at each notification; where Redis may bring it first, a moment later."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await woken.wait()
                if patient:
                    await asyncio.sleep(GRACE_SECONDS)
            woken.clear()
            try:
                await self._catch_up()
            except DatabaseError as error:
                log.warning("the event log is not followed: %s", error)

    async def _catch_up(self) -> None:
        while True:
            async with self._database.transaction() as session:
                found = [
                    published(event)
                    for event in await event_log.after(session, self._position or 0, limit=PAGE)
                ]
            if found:
                # Between, if anything, is only what was forgotten for its age. Redis may have brought more
                # since than was asked for.
                self._position = max(self._position or 0, found[0].position - 1)
            self._append(found)
            if len(found) < PAGE:
                return

    def _append(self, batch: Sequence[PublishedEvent]) -> None:
        """Take over what continues the log; what comes after a gap is left to the next reading."""
        before = self._position
        for event in batch:
            if self._position is not None and event.position == self._position + 1:
                self._recent.append(event)
                self._position = event.position
        if self._position != before:
            self.changed.tell()
