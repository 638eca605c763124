"""The worker keeps the rollups in step with what arrives."""

import asyncio
import contextlib

import pytest

from storage.database import Database
from tests.activities.reports import prepare
from tests.storage.calls import call, store
from tests.waiting import until
from worker import rollups


async def test_what_has_arrived_is_rolled_up_and_again_after_the_connection_was_cut(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups, "PAUSE_SECONDS", 0.1)
    await prepare(database)
    pool = await database.pool()

    async def has(count: int) -> bool:
        found: int = await pool.fetchval("SELECT coalesce(sum(n), 0) FROM rollup_minutes")
        return found == count

    await store(database, [call()] * 3, ago_ms=5_000)
    task = asyncio.create_task(rollups.run(database))
    await until(lambda: has(3))
    await store(database, [call()] * 4)
    cut = await pool.fetchval("""
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'llm-optimizer rollups'
    """)
    assert cut == 1
    await until(lambda: has(7))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
