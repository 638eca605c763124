"""What is forgotten, and what is not."""

from datetime import UTC, datetime, timedelta

import pytest_asyncio

from domain.analytics import DAY_MS
from domain.policy import ServicePolicy
from domain.reports import QualityEvaluation
from storage import retention, services
from storage.database import Database
from storage.partitions import drop_partitions, ensure_day
from tests.activities.reports import prepare
from tests.storage.calls import START, call, roll_up, store

TABLES = ("metrics", "quality", "rollup_minutes", "rollup_hours", "rollup_days")


@pytest_asyncio.fixture(autouse=True)
async def reported(database: Database) -> None:
    """Reports and scores of two services of five days that are over, rolled up."""
    await prepare(database)
    pool = await database.pool()
    async with pool.acquire() as connection:
        await drop_partitions(connection, datetime.now(UTC).date())
    for ago in range(6, 1, -1):
        async with pool.acquire() as connection:
            for table in ("metrics", "quality"):
                await ensure_day(connection, table, datetime.now(UTC).date() - timedelta(days=ago))
        for service in ("chat", "mail"):
            scores = [QualityEvaluation(START, service, 50.0)]
            await store(database, [call(service=service)], scores, ago_ms=ago * DAY_MS)
    await roll_up(database)


async def forget(database: Database, kept_days: int, shorter: dict[str, int]) -> list[str]:
    connection = await database.connect()
    try:
        return await retention.forget(connection, datetime.now(UTC).date(), kept_days, shorter)
    finally:
        await connection.close()


async def days_of(database: Database, service: str) -> dict[str, int]:
    pool = await database.pool()
    return {
        table: await pool.fetchval(
            f"SELECT count(DISTINCT {arrival}::date) FROM {table} WHERE service = $1", service
        )
        for table in TABLES
        for arrival in [f"({'arrived' if 'rollup' in table else 'received_at'} AT TIME ZONE 'UTC')"]
    }


async def test_old_days_are_dropped_with_their_partitions_and_rollups(database: Database) -> None:
    assert await days_of(database, "chat") == dict.fromkeys(TABLES, 5)
    dropped = await forget(database, 4, {})
    assert len(dropped) == 6
    assert await days_of(database, "chat") == dict.fromkeys(TABLES, 3)
    assert await forget(database, 4, {}) == []


async def test_a_service_may_keep_less_than_the_others(database: Database) -> None:
    assert await forget(database, 6, {"mail": 3}) == []
    assert await days_of(database, "mail") == dict.fromkeys(TABLES, 2)
    assert await days_of(database, "chat") == dict.fromkeys(TABLES, 5)


async def test_policies_say_for_how_long(database: Database) -> None:
    async with database.transaction() as session:
        await services.note(session, ["plain"])
        await services.put_policy(session, ServicePolicy(service="chat", retention_days=400))
        await services.put_policy(session, ServicePolicy(service="mail", retention_days=7))
    async with database.transaction() as session:
        assert await services.longest_retention(session) == 400
        assert await services.shorter_retentions(session) == {"mail": 7, "plain": 90}
