"""What rollups cannot tell of too many reports is refused, and what they can is not."""

from typing import Any

import pytest
import pytest_asyncio

from domain.analytics import DAY_MS, MINUTE_MS, MetricsQuery
from domain.errors import InvalidRequest
from storage import analytics
from storage.database import Database
from tests.activities.reports import prepare
from tests.storage.calls import START, call, roll_up, store

MOST = 50


@pytest_asyncio.fixture(autouse=True)
async def reported(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two services: more reports than may be read one by one of the one, and few of the other."""
    monkeypatch.setattr(analytics, "MAX_REPORTS", MOST)
    await prepare(database)
    calls = [call(START + second * 1000) for second in range(0, 600, 10)]
    await store(database, [*calls, *(call(service="mail") for _ in range(MOST))], ago_ms=5_000)
    await roll_up(database)


def asked(start: int, end: int, **fields: Any) -> MetricsQuery:
    window = {"start": start, "end": end}
    return MetricsQuery.model_validate({"timeRange": window, "metrics": ["requests.count"], **fields})


async def count(database: Database, query: MetricsQuery) -> float:
    async with database.transaction() as session:
        readings = await analytics.read(session, query)
    return sum(cell.values["requests.count"] for cell in readings.requests)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (
            asked(START, START + DAY_MS, groupBy=["tags.team"]),
            "groupBy: by a tag, some 110 reports would be read one by one, more than 50; "
            "ask for less time or some services",
        ),
        (
            asked(START, START + DAY_MS, groupBy=["tags.team"], services=["chat"]),
            "groupBy: by a tag, some 60 reports would be read one by one, more than 50; "
            "ask for less time or some services",
        ),
        (
            asked(START + 1, START + 10 * MINUTE_MS + 1, interval=MINUTE_MS),
            "interval: with intervals that begin within a minute, some 121 reports would be read one by one, "
            "more than 50; let start and interval be whole minutes, or ask for less time",
        ),
    ],
)
async def test_too_many_reports_are_not_read_one_by_one(
    database: Database, query: MetricsQuery, reason: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await count(database, query)
    assert refused.value.message == reason


@pytest.mark.parametrize(
    ("query", "told"),
    [
        (asked(START, START + DAY_MS, groupBy=["tags.team"], services=["mail"]), 50),
        (asked(START, START + DAY_MS, groupBy=["model"]), 110),
        (asked(START, START + 10 * MINUTE_MS, interval=MINUTE_MS), 110),
        # Only the first and the last minute are cut.
        (asked(START + 1, START + 10 * MINUTE_MS + 1), 59),
    ],
)
async def test_what_rollups_tell_is_answered_of_any_number(
    database: Database, query: MetricsQuery, told: int
) -> None:
    assert await count(database, query) == told
