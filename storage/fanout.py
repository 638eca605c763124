"""Events carried to every process by Redis, so that a published event need not be read by each of them.

Redis only hurries: what it loses is read from PostgreSQL, of which every process is notified as well.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from domain.errors import DatabaseError
from storage import event_log
from storage.database import Database
from storage.tables import Event

CHANNEL = "llm-optimizer:events"
RETRY_SECONDS = 1.0
POLL_SECONDS = 5.0
SECONDS = 2.0
_AWAY = (RedisError, OSError, TimeoutError)

log = logging.getLogger(__name__)


class PublishedEvent(msgspec.Struct):
    """An event's place in the log, its type, scope and id, and its JSON as everybody outside sees it."""

    position: int
    type: str
    scope: str
    id: str
    json: str


_batch = msgspec.json.Decoder(list[PublishedEvent])


def connect(url: str) -> Redis:
    """A client that fails soon, and tries a lost connection once again."""
    return Redis.from_url(
        url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS, retry=Retry(NoBackoff(), 1)
    )


def published(event: Event) -> PublishedEvent:
    """A published event, ready to be sent."""
    if event.position is None:
        raise ValueError(f"{event.id} is not published")
    text = msgspec.json.encode(event_log.message(event).to_json()).decode()
    return PublishedEvent(event.position, event.type, event.scope, event.id, text)


class FanOut:
    """Sends and hears the events of one database over one Redis."""

    def __init__(self, redis: Redis, database: Database) -> None:
        self._redis = redis
        self._database = database
        self._channel: str | None = None

    async def send(self, events: Sequence[PublishedEvent]) -> None:
        """Send published events to every process; without Redis, not.

        Raises:
            DatabaseError: PostgreSQL is out of reach.
        """
        channel = await self._named()
        try:
            await self._redis.publish(channel, msgspec.json.encode(events))
        except _AWAY as error:
            log.debug("events were not sent by Redis: %s", error)

    async def batches(self) -> AsyncIterator[list[PublishedEvent]]:
        """What the processes send, this one included, for ever. While Redis is away nothing comes."""
        while True:
            try:
                channel = await self._named()
                async with self._redis.pubsub(ignore_subscribe_messages=True) as heard:
                    await heard.subscribe(channel)
                    while True:
                        message = await heard.get_message(timeout=POLL_SECONDS)
                        if message is not None:
                            yield _batch.decode(message["data"])
            except (*_AWAY, msgspec.DecodeError, DatabaseError) as error:
                log.warning("events are read from PostgreSQL alone: %s", error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _named(self) -> str:
        """The channel, which is the database's own: others may share the Redis."""
        if self._channel is None:
            async with self._database.transaction() as session:
                self._channel = f"{CHANNEL}:{await event_log.installation(session)}"
        return self._channel
