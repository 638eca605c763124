"""Baselines: a service's first day, its last, and the one before its present version."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from domain.baseline import Baseline
from domain.errors import InvalidRequest, TimedOut
from domain.metrics import METRICS
from domain.reports import QualityEvaluation
from storage import analytics, baselines, services
from storage.database import Database
from storage.partitions import ensure_day
from tests.activities.reports import prepare
from tests.storage import records
from tests.storage.calls import START, call, store
from tests.storage.records import change, first_config, make

HOUR_MS = 3_600_000


@pytest_asyncio.fixture(autouse=True)
async def days(database: Database) -> None:
    """Partitions of the five days before today, too."""
    await prepare(database)
    pool = await database.pool()
    today = await pool.fetchval("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")
    async with pool.acquire() as connection:
        for table in ("metrics", "quality"):
            for ago in range(1, 6):
                await ensure_day(connection, table, today - timedelta(days=ago))


async def had(database: Database, hours_ago: float, n: int = 1, **change: Any) -> None:
    """Keep calls of some hours ago, which arrived then."""
    pool = await database.pool()
    now = await pool.fetchval("SELECT extract(epoch FROM clock_timestamp())")
    ago_ms = round(hours_ago * HOUR_MS)
    await store(database, [call(round(now * 1000) - ago_ms, **change)] * n, ago_ms=ago_ms)


async def know(database: Database, *names: str) -> None:
    async with database.transaction() as session:
        await services.note(session, names)


async def compute(database: Database, names: Sequence[str] | None = None) -> dict[str, Baseline]:
    async with database.transaction() as session:
        found = await baselines.compute(session, names)
    assert len({baseline.name for baseline in found}) == len(found)
    return {baseline.name: baseline for baseline in found}


async def test_the_first_and_the_last_day(database: Database) -> None:
    await know(database, "chat")
    for ago, latency in ((100, 100.0), (90, 200.0), (70, 900.0), (23, 300.0), (1, 500.0)):
        await had(database, ago, 2, latency_ms=latency)
    await had(database, 1, status_code=500)
    pool = await database.pool()
    now = round(await pool.fetchval("SELECT extract(epoch FROM clock_timestamp())") * 1000)
    await store(database, scores=[QualityEvaluation(now - 99 * HOUR_MS, "chat", 80.0)], ago_ms=99 * HOUR_MS)
    found = await compute(database)
    assert list(found) == ["chat/initial", "chat/rolling"]
    initial, rolling = found.values()
    assert (initial.sample_size, rolling.sample_size) == (4, 5)
    assert initial.metrics == pytest.approx(
        {
            "latency.avg": 150,
            "latency.p50": pytest.approx(150, rel=0.01),
            "latency.p95": pytest.approx(200, rel=0.01),
            "latency.p99": pytest.approx(200, rel=0.01),
            "cost.avg": 0.002,
            "cost.total": 0.008,
            "quality.avg": 80,
            "errors.rate": 0,
            "errors.count": 0,
            "tokens.input": 200,
            "tokens.output": 100,
            "tokens.total": 300,
            "requests.count": 4,
            "requests.rate": 4 / 86_400,
        }
    )
    assert set(initial.metrics) == set(METRICS)
    assert rolling.metrics["latency.avg"] == 400
    assert rolling.metrics["errors.rate"] == 0.2
    assert "quality.avg" not in rolling.metrics
    assert rolling.created_at - initial.created_at == pytest.approx(76 * HOUR_MS, abs=60_000)
    assert initial.description.startswith("As it was at first, as far as reports are kept: the reports from")
    assert initial.description.endswith(" UTC.")


async def test_a_service_of_an_hour_has_an_hour_s_rate(database: Database) -> None:
    await know(database, "chat")
    await had(database, 1, 36)
    for baseline in (await compute(database)).values():
        assert baseline.metrics["requests.rate"] == pytest.approx(0.01, rel=0.02)


async def test_the_day_before_the_present_version_ends_where_its_rollout_began(database: Database) -> None:
    await know(database, "chat")
    await first_config(database, "chat")
    opened = await make(database, change("chat", "gpt-5"))
    assert opened.deployment_id is not None
    await records.complete(database, opened.deployment_id)
    pool = await database.pool()
    await pool.execute(
        "UPDATE rollouts SET started_at = ended_at - interval '2 hours' WHERE id = $1", opened.deployment_id
    )
    for ago, latency in ((60, 1.0), (10, 200.0), (3, 400.0), (1, 9_999.0)):
        await had(database, ago, latency_ms=latency)
    before = (await compute(database))["chat/pre-change"]
    assert (before.sample_size, before.metrics["latency.avg"]) == (2, 300)
    assert before.description.startswith("Before chat@2 began to be served: ")
    started = await pool.fetchval("SELECT extract(epoch FROM started_at) * 1000 FROM rollouts")
    assert before.created_at == int(started)


async def test_a_service_that_inherits_is_changed_with_the_global_configuration(database: Database) -> None:
    await know(database, "chat")
    await had(database, 1, latency_ms=700.0)
    await first_config(database, "global")
    before = (await compute(database))["chat/pre-change"]
    assert (before.sample_size, before.metrics["latency.avg"]) == (1, 700)
    assert "global@1" in before.description


async def test_without_requests_there_is_no_baseline(database: Database) -> None:
    await know(database, "chat", "mail", "search")
    await had(database, 30)
    await store(database, scores=[QualityEvaluation(START, "mail", 80.0)])
    assert list(await compute(database)) == ["chat/initial"]
    await first_config(database, "chat")
    assert list(await compute(database)) == ["chat/initial"]


async def test_some_services_may_be_named_and_no_more_than_fifty_are_measured(database: Database) -> None:
    names = [f"service-{number}" for number in range(baselines.MAX_SERVICES + 1)]
    await know(database, *names)
    for name in names[:3]:
        await had(database, 12, service=name)
    found = await compute(database, [*names[1:3], "nobody"])
    assert list(found) == [f"{name}/{kind}" for name in names[1:3] for kind in ("initial", "rolling")]
    with pytest.raises(InvalidRequest, match=r"^services: .* more than 50"):
        await compute(database)
    assert len(await compute(database, names[1:])) == 4


async def test_baselines_that_take_too_long_are_given_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await know(database, "chat")
    monkeypatch.setattr(analytics, "QUERY_SECONDS", 0.05)
    pool = await database.pool()
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE metrics")
        with pytest.raises(TimedOut):
            await compute(database)
