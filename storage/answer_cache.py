"""Finished answers, kept in Redis for seconds: many dashboards ask the same."""

import asyncio
import hashlib
import logging
import time

from redis.asyncio import Redis
from redis.exceptions import RedisError

from domain.errors import DatabaseError
from storage import event_log
from storage.database import Database

PREFIX = "llm-optimizer:answers"
SECONDS = 0.25
AWAY_SECONDS = 1.0
LARGEST = 1_000_000
"""An answer of more bytes is not kept."""

_AWAY = (RedisError, OSError, TimeoutError, DatabaseError)

log = logging.getLogger(__name__)


class AnswerCache:
    """Answers by question, for all processes of one database. Without Redis nothing is kept."""

    def __init__(self, redis: Redis | None, database: Database, *, seconds: float) -> None:
        self._redis = redis if seconds > 0 else None
        self._database = database
        self._milliseconds = max(1, round(seconds * 1000))
        self._prefix: str | None = None
        self._look_at = 0.0

    async def get(self, question: bytes) -> bytes | None:
        """The kept answer to a question, None where there is none."""
        if self._redis is None or time.monotonic() < self._look_at:
            return None
        try:
            name = await self._name(question)
            async with asyncio.timeout(SECONDS):
                found = await self._redis.get(name)
        except _AWAY as error:
            self._stay_away(error)
            return None
        return found.encode() if isinstance(found, str) else found

    async def put(self, question: bytes, answer: bytes) -> None:
        """Keep an answer for a while."""
        if self._redis is None or len(answer) > LARGEST or time.monotonic() < self._look_at:
            return
        try:
            name = await self._name(question)
            async with asyncio.timeout(SECONDS):
                await self._redis.set(name, answer, px=self._milliseconds)
        except _AWAY as error:
            self._stay_away(error)

    async def _name(self, question: bytes) -> str:
        """The database's own: others may share the Redis."""
        if self._prefix is None:
            async with self._database.transaction() as session:
                self._prefix = f"{PREFIX}:{await event_log.installation(session)}"
        return f"{self._prefix}:{hashlib.sha256(question).hexdigest()}"

    def _stay_away(self, error: BaseException) -> None:
        log.debug("answers are not kept for now: %s", error)
        self._look_at = time.monotonic() + AWAY_SECONDS
