"""The labels in use today, as the rollups tell them."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from domain.label_limits import Labels
from storage import labels
from storage.database import Database
from storage.partitions import ensure_day
from tests.activities.reports import prepare
from tests.storage.calls import call, roll_up, store


async def test_labels_of_today_are_known_and_those_of_yesterday_forgotten(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "ROWS_AT_ONCE", 2)
    await prepare(database)
    pool = await database.pool()
    async with pool.acquire() as connection:
        await ensure_day(connection, "metrics", datetime.now(UTC).date() - timedelta(days=1))
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    # What came in the last second is not rolled up, and today must have had more than that.
    await asyncio.sleep(max(0.0, 4 - (datetime.now(UTC) - midnight).total_seconds()))
    since = round((datetime.now(UTC) - midnight).total_seconds() * 1000)
    await store(database, [call(service="yesterday")], ago_ms=since + 60_000)
    today = [call(tags={"configVersion": "chat@1"}), call(status_code=500), call(error_type="timeout")]
    await store(database, today, ago_ms=since // 2)
    await roll_up(database)
    async with database.transaction() as session:
        found = [one async for some in labels.used_today(session) for one in some]
    known = Labels("chat", "answer", "openai", "gpt-4o")
    assert len(found) == 3
    assert set(found) == {
        known,
        known._replace(config_version="chat@1"),
        known._replace(error_type="timeout"),
    }
