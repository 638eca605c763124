"""The feed of a replica, which hears of an event in two ways."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
from redis.asyncio import Redis

from api.events.feed import EventFeed
from infra.embedded import EmbeddedStack
from storage import event_log, fanout, publisher
from storage.database import Database
from storage.events import alert
from storage.fanout import FanOut, published
from tests import waiting


@pytest_asyncio.fixture
async def redis(stack: EmbeddedStack) -> AsyncIterator[Redis]:
    client = fanout.connect(stack.redis_url)
    yield client
    await client.aclose()


async def until_it_waits(database: Database) -> None:
    """Until a lock holds up the feed in its reading of the log."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%position > %'"
    )
    pool = await database.pool()

    async def waits() -> bool:
        return bool(await pool.fetchval(query))

    await waiting.until(waits)


async def until(feed: EventFeed, position: int, *, after: int = 1) -> list[int]:
    """The positions of what the feed has after one, once it has this other."""
    async with asyncio.timeout(10):
        while True:
            changed = feed.changed.next()
            positions = [event.position for event in await feed.after(after)]
            if position in positions:
                return positions
            await changed.wait()


async def test_what_redis_brings_while_postgresql_is_read_comes_once(
    database: Database, redis: Redis
) -> None:
    feed = EventFeed(database, redis)
    async with database.transaction() as session:
        alert(session, "chat", "low", "first")
    async with feed.running():
        await until(feed, 1, after=0)
        async with database.transaction() as session:
            connection = await session.connection()
            await connection.exec_driver_sql("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
            for number in range(3):
                alert(session, "chat", "low", str(number))
            await session.flush()
            events = await event_log.publish(session)
            await until_it_waits(database)
            await FanOut(redis, database).send([published(event) for event in events])
            assert await until(feed, 4) == [2, 3, 4]
        async with database.transaction() as session:
            alert(session, "chat", "low", "last")
        await publisher.publish_all(database)
        assert await until(feed, 5) == [2, 3, 4, 5]
