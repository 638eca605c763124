"""The real stack that tests run against: PostgreSQL, Redis and Temporal, started once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from infra.embedded import EmbeddedStack
from storage.database import Database
from storage.migrations import upgrade

# Of one row each that a migration made; Alembic's own.
KEPT = "control, event_log, rollup_progress, alembic_version"
LARGE = 1_000_000
# To truncate takes a file and a flush to disk for each table and index: a hundred times as long as to delete
# a few rows.
EMPTY = f"""
    SET session_replication_role = replica;
    DO $$ DECLARE name text; BEGIN
        FOR name IN
            SELECT relname FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
              AND relname <> ALL (string_to_array('{KEPT}', ', '))
        LOOP
            IF (SELECT sum(pg_relation_size(relid)) FROM pg_partition_tree(name)) > {LARGE} THEN
                EXECUTE format('TRUNCATE %I CASCADE', name);
            ELSE
                EXECUTE format('DELETE FROM %I', name);
            END IF;
        END LOOP;
    END $$;
    SET session_replication_role = DEFAULT;
    SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S'
"""
BUSY = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend'
      AND pid <> pg_backend_pid() AND state IN ('active', 'idle in transaction')
"""


@pytest_asyncio.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedStack]:
    """One embedded stack for all tests, with time skipping."""
    folder: Path = tmp_path_factory.mktemp("stack")
    async with EmbeddedStack(folder, time_skipping=True, temporal_ui=False, usual_ports=False) as started:
        await asyncio.to_thread(upgrade, started.database_url)
        yield started


@pytest_asyncio.fixture(scope="session")
async def temporal(stack: EmbeddedStack) -> Client:
    """A client of the stack's Temporal server."""
    return await Client.connect(stack.temporal_address, data_converter=pydantic_data_converter)


@pytest_asyncio.fixture
async def unscheduled(temporal: Client) -> AsyncIterator[None]:
    """No schedules before the test and after it: a worker that was killed leaves its own, which then wait."""
    await _delete_schedules(temporal)
    yield
    await _delete_schedules(temporal)


async def _delete_schedules(client: Client) -> None:
    async for listed in await client.list_schedules():
        await client.get_schedule_handle(listed.id).delete()


@pytest_asyncio.fixture
async def database(stack: EmbeddedStack) -> AsyncIterator[Database]:
    """The stack's database, emptied."""
    connection = await asyncpg.connect(stack.database_url)
    # The server ends a connection's last statement a moment after its client has gone.
    async with asyncio.timeout(30):
        while True:
            if not await connection.fetchval(BUSY):
                break
            await asyncio.sleep(0.01)
    await connection.execute(EMPTY)
    await connection.execute(
        "UPDATE control SET state = 'running', epoch = 0, revision = 0, reason = NULL, changed_by = NULL"
    )
    await connection.execute("UPDATE event_log SET position = 0")
    await connection.execute(
        "UPDATE rollup_progress SET requests_until = '-infinity', scores_until = '-infinity', "
        "hours_until = '-infinity', days_until = '-infinity'"
    )
    await connection.close()
    opened = Database(stack.database_url)
    yield opened
    await opened.close()
