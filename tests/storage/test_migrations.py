"""The schema: reached from nothing, again and by several at once, and what the models say of it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest_asyncio
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from infra.embedded import EmbeddedStack
from storage.migrations import upgrade
from storage.tables import Base

TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"


@pytest_asyncio.fixture
async def empty(stack: EmbeddedStack) -> AsyncIterator[str]:
    """The URL of a database with nothing in it."""
    connection = await asyncpg.connect(stack.database_url)
    await connection.execute("CREATE DATABASE empty")
    yield make_url(stack.database_url).set(database="empty").render_as_string(hide_password=False)
    await connection.execute("DROP DATABASE empty WITH (FORCE)")
    await connection.close()


async def tables(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    found = [row["tablename"] for row in await connection.fetch(TABLES)]
    await connection.close()
    return found


async def test_an_upgrade_may_be_repeated_and_keeps_what_is_there(empty: str) -> None:
    await asyncio.to_thread(upgrade, empty)
    connection = await asyncpg.connect(empty)
    await connection.execute("UPDATE control SET state = 'paused'")
    await asyncio.to_thread(upgrade, empty)
    assert await connection.fetchval("SELECT state FROM control") == "paused"
    await connection.close()


async def test_processes_that_upgrade_at_once_do_it_once(empty: str) -> None:
    migrate = "import sys; from storage.migrations import upgrade; upgrade(sys.argv[1])"
    together = [await asyncio.create_subprocess_exec(sys.executable, "-c", migrate, empty) for _ in range(3)]
    assert await asyncio.gather(*(process.wait() for process in together)) == [0, 0, 0]
    assert {"alembic_version", "control", "metrics"} <= set(await tables(empty))


async def test_the_models_are_the_migrated_schema(empty: str) -> None:
    """Tables, columns, types, defaults and keys. What only the database must know, indexes and constraints,
    is left to the migrations, as are the tables of reports and rollups, which are written by COPY.
    """
    await asyncio.to_thread(upgrade, empty)
    engine = create_async_engine(make_url(empty).set(drivername="postgresql+asyncpg"))
    async with engine.connect() as connection:
        differences = await connection.run_sync(_differences)
    await engine.dispose()
    assert differences == []


def _differences(connection: Connection) -> list[Any]:
    def is_modelled(_object: Any, name: str | None, kind: str, reflected: bool, compared: Any) -> bool:
        if kind == "table":
            return name not in ("metrics", "quality") and not str(name).startswith("rollup_")
        return not (
            reflected
            and compared is None
            and kind in ("index", "unique_constraint", "foreign_key_constraint")
        )

    context = MigrationContext.configure(
        connection,
        opts={"compare_type": True, "compare_server_default": True, "include_object": is_modelled},
    )
    return list(compare_metadata(context, Base.metadata))
