"""Hears of each change as it commits, by PostgreSQL's LISTEN."""

import asyncio
import contextlib
import logging
from types import TracebackType
from typing import Self

import asyncpg

from domain.errors import DatabaseError
from storage.database import Database
from storage.tasks import stop

log = logging.getLogger(__name__)

CHANNEL = "optimizer"
RETRY_SECONDS = 1.0
_LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class ChangeFeed:
    """Sets events when tables change; after a lost connection all of them, since something may be missed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: list[tuple[frozenset[str], asyncio.Event]] = []
        self._task: asyncio.Task[None] | None = None

    def event(self, *tables: str) -> asyncio.Event:
        """An event that is set whenever one of the tables changes; whoever waits for it clears it."""
        event = asyncio.Event()
        self._listeners.append((frozenset(tables), event))
        return event

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            await stop([self._task])

    async def _listen(self) -> None:
        while True:
            try:
                connection = await self._database.connect()
            except (DatabaseError, asyncpg.PostgresError) as error:
                log.warning("the change feed cannot connect: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            try:
                await self._hear_from(connection)
            finally:
                with contextlib.suppress(*_LOST):
                    await connection.close(timeout=1)

    async def _hear_from(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Listen until the connection is lost."""
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            await connection.add_listener(CHANNEL, self._heard)
        except _LOST:
            return
        self._set_all()
        await lost.wait()
        log.warning("the change feed was cut off; connecting again")

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        for tables, event in self._listeners:
            if payload in tables:
                event.set()

    def _set_all(self) -> None:
        for _, event in self._listeners:
            event.set()
