"""Baselines: measured when they are due, kept, and set by hand."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from domain.baseline import Baseline, GoldenRequest
from domain.errors import InvalidRequest, NotFound, TimedOut
from domain.metrics import METRICS
from domain.reports import QualityEvaluation
from storage import analytics, baseline_refresh, baselines, findings, services
from storage.database import Database
from storage.partitions import ensure_day
from storage.tables import db_clock
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


async def refresh(database: Database, *names: str, after_ms: int = 0) -> int:
    """Measure what is due by now, or a while after; gives how many baselines were measured."""
    async with database.transaction() as session:
        now = (await session.execute(select(db_clock()))).scalar_one()
        return await baseline_refresh.refresh(session, names or ["chat"], now + after_ms)


async def stored(database: Database, names: Sequence[str] | None = None) -> dict[str, Baseline]:
    async with database.transaction() as session:
        found = await baselines.stored(session, names)
    assert len({baseline.name for baseline in found}) == len(found)
    return {baseline.name: baseline for baseline in found}


async def compute(database: Database, *names: str) -> dict[str, Baseline]:
    await refresh(database, *names)
    return await stored(database)


async def set_golden(database: Database, **given: Any) -> Baseline:
    async with database.transaction() as session:
        request = GoldenRequest.model_validate({"service": "chat"} | given)
        return await baselines.set_golden(session, request, by="ada")


async def test_the_first_and_the_last_day(database: Database) -> None:
    await know(database, "chat")
    for ago, latency in ((100, 100.0), (90, 200.0), (70, 900.0), (23, 300.0), (1, 500.0)):
        await had(database, ago, 2, latency_ms=latency)
    await had(database, 1, status_code=500)
    pool = await database.pool()
    now = round(await pool.fetchval("SELECT extract(epoch FROM clock_timestamp())") * 1000)
    await store(database, scores=[QualityEvaluation(now - 99 * HOUR_MS, "chat", 80.0)], ago_ms=99 * HOUR_MS)
    found = await compute(database)
    initial, rolling = found["chat/initial"], found["chat/rolling"]
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
    assert abs(rolling.created_at - now) < 60_000
    assert initial.description.startswith("As it was at first, as far as reports were kept: the reports from")
    assert initial.description.endswith(" UTC.")


async def test_a_service_of_two_hours_has_two_hours_rate(database: Database) -> None:
    await know(database, "chat")
    await had(database, 2, 72)
    found = await compute(database)
    for kind in ("initial", "rolling"):
        assert found[f"chat/{kind}"].metrics["requests.rate"] == pytest.approx(0.01, rel=0.02)


async def test_the_same_hour_of_the_days_before_and_the_busiest_hour(database: Database) -> None:
    await know(database, "chat")
    pool = await database.pool()
    into = float(await pool.fetchval("SELECT extract(epoch FROM clock_timestamp())")) % 3600 / 3600
    # In the middle of the last complete hour, of that hour on two days before, and of another one.
    for ago, n, latency in ((0, 1, 9.0), (24, 1, 100.0), (48, 3, 200.0), (50, 7, 800.0), (60, 1, 1.0)):
        await had(database, into + 0.5 + ago, n, latency_ms=latency)
    found = await compute(database)
    same_hour, peak = found["chat/same-hour"], found["chat/peak"]
    assert (same_hour.sample_size, same_hour.metrics["latency.avg"]) == (4, 175)
    assert same_hour.metrics["requests.rate"] == pytest.approx(4 / 7200)
    assert same_hour.description.startswith("The same hour of the day on the days before: the reports from")
    assert (peak.sample_size, peak.metrics["latency.avg"]) == (7, 800)
    assert peak.metrics["requests.rate"] == pytest.approx(7 / 3600)


async def test_what_is_not_due_is_not_measured_again(database: Database) -> None:
    await know(database, "chat")
    await had(database, 30, 2, latency_ms=100.0)
    await had(database, 3, 2, latency_ms=300.0)
    first = await compute(database)
    await had(database, 29, 1, latency_ms=9_000.0)
    await had(database, 2, 1, latency_ms=600.0)
    again = await compute(database)
    measured = {name: (baseline.metrics, baseline.sample_size) for name, baseline in first.items()}
    assert {name: measured[name] for name in measured} == {
        name: (again[name].metrics, again[name].sample_size) for name in measured
    }
    await refresh(database, after_ms=11 * 60_000)
    later = await stored(database)
    assert later["chat/rolling"].metrics["latency.avg"] == 400
    # The first day is full: it stays as it was.
    assert later["chat/initial"].metrics == first["chat/initial"].metrics


async def test_a_first_day_is_measured_until_it_is_full(database: Database) -> None:
    await know(database, "chat")
    await had(database, 3, 2)
    assert (await compute(database))["chat/initial"].sample_size == 2
    await had(database, 1, 5)
    await refresh(database, after_ms=11 * 60_000)
    assert (await stored(database))["chat/initial"].sample_size == 7


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
    # The next change has a day before of its own, in which another latency was measured.
    opened = await make(database, change("chat", "gpt-4o-mini"))
    assert opened.deployment_id is not None
    await records.complete(database, opened.deployment_id)
    after = (await compute(database))["chat/pre-change"]
    assert after.sample_size == 3
    assert after.description.startswith("Before chat@3 began to be served: ")


async def test_a_service_that_inherits_is_changed_with_the_global_configuration(database: Database) -> None:
    await know(database, "chat")
    await had(database, 1, latency_ms=700.0)
    await first_config(database, "global")
    before = (await compute(database))["chat/pre-change"]
    assert (before.sample_size, before.metrics["latency.avg"]) == (1, 700)
    assert "global@1" in before.description


async def test_without_requests_there_is_no_baseline(database: Database) -> None:
    await know(database, "chat", "mail", "search")
    await had(database, 30.5)
    await store(database, scores=[QualityEvaluation(START, "mail", 80.0)])
    found = await compute(database, "chat", "mail", "search")
    assert list(found) == ["chat/initial", "chat/peak"]


async def test_services_are_measured_together_and_read_by_name(database: Database) -> None:
    names = ["chat", "mail", "search"]
    await know(database, *names)
    for number, name in enumerate(names, 1):
        await had(database, 12, number, service=name, latency_ms=100.0 * number)
    await refresh(database, *names)
    found = await stored(database, ["mail", "nobody"])
    assert {name.partition("/")[0] for name in found} == {"mail"}
    assert (found["mail/rolling"].sample_size, found["mail/rolling"].metrics["latency.avg"]) == (2, 200)
    assert set(await stored(database, ["chat"])) == {
        f"chat/{kind}" for kind in ("initial", "peak", "rolling")
    }


async def test_a_golden_baseline_is_set_by_hand_and_stays(database: Database) -> None:
    await know(database, "chat")
    pool = await database.pool()
    now = round(await pool.fetchval("SELECT extract(epoch FROM clock_timestamp())") * 1000)
    for ago in range(1, 6):
        await had(database, ago + 0.5, 20, latency_ms=100.0 + ago)
    made = await set_golden(database, start=now - 24 * HOUR_MS, end=now - HOUR_MS // 2)
    assert (made.name, made.sample_size) == ("chat/golden", 100)
    assert made.metrics["latency.avg"] == pytest.approx(103)
    assert made.description.startswith("Set by hand, by ada: the reports from")
    await had(database, 3, 50, latency_ms=9_000.0)
    await refresh(database, after_ms=48 * HOUR_MS)
    assert (await stored(database))["chat/golden"] == made
    async with database.transaction() as session:
        kept = (await findings.references(session, ["chat"]))["chat"]["latency.avg"]
    assert kept.mean == pytest.approx(103)
    assert kept.hours == 5
    # By hand it is replaced, and removed.
    again = await set_golden(database)
    assert again.sample_size == 150
    async with database.transaction() as session:
        assert await baselines.remove_golden(session, "chat") == again
    assert "chat/golden" not in await stored(database)
    async with database.transaction() as session:
        with pytest.raises(NotFound):
            await baselines.remove_golden(session, "chat")


async def test_a_golden_baseline_of_nothing_is_refused(database: Database) -> None:
    with pytest.raises(NotFound, match="chat"):
        await set_golden(database)
    await know(database, "chat")
    with pytest.raises(InvalidRequest, match=r"^start, end: chat had no request from"):
        await set_golden(database)
    now = START + 100 * 365 * 24 * HOUR_MS // 10
    with pytest.raises(InvalidRequest, match=r"^end: .* not over yet"):
        await set_golden(database, end=now)
    for start, end, wrong in ((5, 5, "after start"), (0, 91 * 24 * HOUR_MS, "90 days")):
        with pytest.raises(ValueError, match=wrong):
            GoldenRequest(service="chat", start=START + start, end=START + end)
    with pytest.raises(InvalidRequest, match=r"^start: .* 90 days"):
        await set_golden(database, start=START)


async def test_a_measurement_that_takes_too_long_is_given_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await know(database, "chat")
    monkeypatch.setattr(analytics, "QUERY_SECONDS", 0.05)
    pool = await database.pool()
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE metrics")
        with pytest.raises(TimedOut):
            await set_golden(database)
