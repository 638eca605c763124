"""PostgreSQL out of reach is told by one error, and is found again when it is back."""

import os
import signal

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from domain.errors import DatabaseError
from infra.embedded import EmbeddedStack, started
from storage.database import Database
from tests.waiting import until


async def ask(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("SELECT 1"))


async def test_a_server_that_shuts_down_or_is_gone_cannot_be_reached(
    stack: EmbeddedStack, database: Database
) -> None:
    await ask(database)
    postgres = started(stack.postgres)
    held = await asyncpg.connect(stack.database_url)
    assert postgres.pid is not None
    # A smart shutdown, which waits for those who are connected and refuses everyone else.
    os.kill(postgres.pid, signal.SIGTERM)
    fresh = Database(stack.database_url)

    async def refused() -> bool:
        try:
            await ask(fresh)
        except DatabaseError as error:
            return "shutting down" in str(error.__cause__)
        return False

    await until(refused)
    await held.close()
    await postgres.stop()
    for opened in (database, fresh):
        with pytest.raises(DatabaseError):
            await ask(opened)
    await postgres.start()
    for opened in (database, fresh):
        await ask(opened)
    await fresh.close()


async def test_connections_that_were_lost_are_replaced(database: Database) -> None:
    with pytest.raises(DatabaseError):
        await _terminate_all(database)
    await ask(database)


async def _terminate_all(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()")
        )


async def test_a_mistake_of_ours_is_not_taken_for_an_unreachable_server(database: Database) -> None:
    async with database.transaction() as session:
        with pytest.raises(ProgrammingError):
            await session.execute(text("SELECT nonsense"))
