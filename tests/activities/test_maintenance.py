"""The schedule's maintenance: days made ahead, and days forgotten."""

from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Self

import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities import loop
from domain.policy import ServicePolicy
from storage import services
from storage.database import Database
from storage.partitions import TABLES, drop_partitions, ensure_day, partition_days
from workflows import messages as m

RETENTION_DAYS = 100


@pytest_asyncio.fixture(autouse=True)
async def days(database: Database) -> None:
    """Partitions of a year ago, of the first day that is kept and of the one before; a policy."""
    connection = await database.connect()
    await drop_partitions(connection, date(9999, 12, 31))
    for table in TABLES:
        for ago in (365, RETENTION_DAYS + 1, RETENTION_DAYS):
            await ensure_day(connection, table, datetime.now(UTC).date() - timedelta(days=ago))
    await connection.close()
    async with database.transaction() as session:
        await services.put_policy(session, ServicePolicy(service="chat", retention_days=RETENTION_DAYS))


async def maintained(database: Database, temporal: Client) -> list[int]:
    """The days of which the tables have partitions after a maintenance, counted from today."""
    activities = loop.LoopActivities(database, temporal, step_seconds=60.0)
    today = datetime.now(UTC).date()
    await ActivityEnvironment().run(activities.maintain, m.HousekeepingInput())
    connection = await database.connect()
    try:
        found = [[(day - today).days for day in await partition_days(connection, table)] for table in TABLES]
    finally:
        await connection.close()
    assert found[0] == found[1] == found[2]
    return found[0]


async def test_days_are_made_ahead_and_dropped_past_the_longest_retention(
    database: Database, temporal: Client
) -> None:
    for _ in range(2):
        assert await maintained(database, temporal) == [-RETENTION_DAYS, 0, 1, 2, 3]


class Behind(datetime):
    """A worker's clock that is ten days behind PostgreSQL's."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) - timedelta(days=10)


async def test_a_clock_that_is_ahead_of_the_workers_forgets_nothing_before_its_time(
    database: Database, temporal: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "datetime", Behind)
    assert await maintained(database, temporal) == [-RETENTION_DAYS - 1, -RETENTION_DAYS, 0, 1, 2, 3]
