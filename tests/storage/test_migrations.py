"""The schema: reached from nothing, again and by several at once, and what the models say of it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from domain.deployment import Samples
from domain.ledger.measurement import Measurement
from domain.plan import Prediction
from infra.embedded import EmbeddedStack
from storage import ledger, migrations
from storage.database import Database
from storage.ledger import Selection
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


async def test_rollouts_from_before_the_ledger_have_entries_in_it(empty: str) -> None:
    """What they had predicted, and what their last check had read, is read from the ledger from then on."""
    await asyncio.to_thread(_upgrade_to, empty, "0006-1")
    connection = await asyncpg.connect(empty)
    await connection.execute(_ROLLOUTS_BEFORE_THE_LEDGER)
    await connection.close()
    await asyncio.to_thread(upgrade, empty)
    database = Database(empty)
    async with database.transaction() as session:
        found = {entry.deployment_id: entry for entry in await ledger.entries(session, Selection())}
        improvements = await ledger.improvements(session, list(found))
    await database.close()
    ended, running = found["ended"], found["running"]
    assert (ended.service, ended.scope, ended.metric) == ("chat", "chat:answer", "cost.avg")
    assert (ended.outcome, ended.stopped, running.outcome) == ("rolled_back", True, None)
    assert ended.predicted == Prediction(mean=0.005, low=0.004, high=0.006, samples=7)
    assert ended.measured == Measurement(
        control=0.01, canary=0.004, difference=-0.006, samples=Samples(control=90, canary=30)
    )
    assert improvements == {"ended": {"cost.avg": pytest.approx(0.6)}}
    assert (running.measured, running.comparison, ended.comparison) == (None, None, None)


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


_ROLLOUTS_BEFORE_THE_LEDGER = """
    INSERT INTO config_versions (version, scope, number, config, created_by, change_type, reason)
    VALUES ('chat@1', 'chat', 1, '{}', 'ada', 'manual', ''), ('chat@2', 'chat', 2, '{}', 'ada', 'manual', '');
    INSERT INTO rollouts (id, scope, strategy, change_type, changed_by, reason, from_version, to_version,
        plan, policy, status, epoch, check_number, predicted, rollback, ended_at)
    SELECT id, scope, 'canary', 'automatic', 'optimizer', '', 'chat@1', 'chat@2', '{}', '{}', status, 0, 2,
        '{"cost.avg": {"mean": 0.005, "low": 0.004, "high": 0.006, "samples": 7}}', rollback, ended_at
    FROM (VALUES
        ('ended', 'chat:answer', 'rolled_back', '{"triggers": [{"metric": "cost.avg"}]}'::jsonb, now()),
        ('running', 'mail', 'running', NULL, NULL)
    ) AS given (id, scope, status, rollback, ended_at);
    INSERT INTO rollout_checks (deployment_id, number, step, at, bucket_from, bucket_until, verdict, reason,
        result)
    SELECT 'ended', number, 0, now(), now(), now(), 'continue', '', jsonb_build_object('guardrails', readings)
    FROM (VALUES
        (1, '[{"metric": "cost.avg", "control": 1, "canary": 2, "difference": 1, "evidence": 1,
               "samples": {"control": 1, "canary": 1}}]'::jsonb),
        (2, '[{"metric": "cost.avg", "control": 0.01, "canary": 0.004, "difference": -0.006, "evidence": 1,
               "samples": {"control": 90, "canary": 30}},
              {"metric": "quality.avg", "evidence": 1, "samples": {"control": 0, "canary": 0}}]')
    ) AS looks (number, readings);
"""


def _upgrade_to(url: str, revision: str) -> None:
    """The schema as it was at some revision."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["url"] = make_url(url).set(drivername="postgresql+asyncpg")
    command.upgrade(config, revision)


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
