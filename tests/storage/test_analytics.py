"""Metrics by time and group, against the same numbers worked out in Python."""

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from sqlalchemy import text

from domain import series
from domain.analytics import DAY_MS, HOUR_MS, MINUTE_MS, Aggregation, MetricsQuery
from domain.errors import InvalidRequest, TimedOut
from domain.metrics import METRICS
from domain.reports import MetricReport, QualityEvaluation
from domain.series import Group
from domain.totals import PERCENTILES
from storage import analytics
from storage.database import Database, deadline
from storage.partitions import ensure_day
from tests.activities.reports import prepare
from tests.storage.calls import START, call, roll_up, store

MODELS = (("openai", "gpt-4o"), ("openai", "gpt-4o-mini"), ("anthropic", "claude-sonnet-4"))
LABELS: dict[str, Callable[[MetricReport], str | None]] = {
    "service": lambda call: call.service,
    "endpoint": lambda call: call.endpoint,
    "provider": lambda call: call.provider,
    "model": lambda call: call.model,
    "configVersion": lambda call: call.config_version,
    "tags.team": lambda call: (call.tags or {}).get("team"),
}


AGO_MS = {"fresh": 0, "minutes": 120_000, "hours": 3 * HOUR_MS, "days": 2 * DAY_MS}
"""How long ago reports arrived, so that rollups up to that level hold them."""


@pytest_asyncio.fixture(autouse=True)
async def partitioned(database: Database) -> None:
    await prepare(database)
    pool = await database.pool()
    today = await pool.fetchval("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")
    async with pool.acquire() as connection:
        for table in ("metrics", "quality"):
            for ago in (1, 2):
                await ensure_day(connection, table, today - timedelta(days=ago))


@dataclass(frozen=True)
class Keeper:
    """Keeps reports, and has them rolled up as far as `level`."""

    database: Database
    level: str

    async def __call__(self, *given: Any) -> None:
        await store(self.database, *given, ago_ms=AGO_MS[self.level])
        if self.level != "fresh":
            await roll_up(self.database)


@pytest.fixture(params=AGO_MS)
def keep(database: Database, request: pytest.FixtureRequest) -> Keeper:
    return Keeper(database, request.param)


async def forget_costs(database: Database, service: str) -> None:
    """Make a service's costs unknown: the tests' models all have prices."""
    pool = await database.pool()
    await pool.execute("UPDATE metrics SET cost_usd = NULL WHERE service = $1", service)


def asked(*metrics: str, start: int = START, end: int = START + 3_600_000, **given: Any) -> MetricsQuery:
    fields = {"metrics": list(metrics), "timeRange": {"start": start, "end": end}}
    return MetricsQuery.model_validate(fields | given)


Answer = dict[str, dict[tuple[int, tuple[tuple[str, str], ...]], float]]


async def ask(database: Database, query: MetricsQuery) -> Answer:
    """Values by metric, and by time and dimensions."""
    async with database.transaction() as session:
        readings = await analytics.read(session, query)
    found: Answer = {}
    for answered in series.answer(query, readings).metrics:
        points = {
            (point.timestamp, tuple(sorted((point.dimensions or {}).items()))): point.value
            for point in answered.data_points
        }
        assert len(points) == len(answered.data_points)
        found[answered.metric] = points
    return found


async def values(database: Database, *metrics: str, **given: Any) -> list[float]:
    """The only value of each metric."""
    found = await ask(database, asked(*metrics, **given))
    return [value for name in metrics for value in found[name].values()]


@dataclass
class Traffic:
    """Calls of an hour and their scores, made up."""

    calls: list[MetricReport] = field(default_factory=list)
    scores: list[tuple[QualityEvaluation, MetricReport | None]] = field(default_factory=list)


def made_up(seed: int = 1) -> Traffic:
    rng, traffic = random.Random(seed), Traffic()
    for number in range(600):
        provider, model = rng.choice(MODELS)
        tags = {"requestId": f"r{number}"}
        if rng.random() < 0.7:
            tags["team"] = rng.choice(("red", "blue"))
        if rng.random() < 0.8:
            tags["configVersion"] = rng.choice(("chat@1", "chat@2"))
        failed = rng.random() < 0.1
        tokens = rng.randint(10, 500), rng.randint(10, 500)
        traffic.calls.append(
            call(
                START + rng.randrange(3_600_000),
                service=rng.choice(("chat", "search")),
                endpoint=rng.choice(("answer", "summarize")),
                provider=provider,
                model=model,
                latency_ms=rng.lognormvariate(6, 0.8),
                tokens_input=tokens[0],
                tokens_output=tokens[1],
                tokens_total=sum(tokens) + 7,
                cost_usd=rng.random() / 100,
                status_code=500 if failed else 200,
                error_type="timeout" if failed and rng.random() < 0.5 else None,
                tags=tags,
            )
        )
    for made in rng.sample(traffic.calls, 200):
        own = rng.choice((None, None, "chat@3"))
        at = made.timestamp + rng.randrange(60_000)
        score = QualityEvaluation(
            at, made.service, rng.uniform(0, 100), request_id=made.request_id, config_version=own
        )
        traffic.scores.append((score, made))
    for _ in range(50):
        at = START + rng.randrange(3_600_000)
        traffic.scores.append(
            (QualityEvaluation(at, "chat", rng.uniform(0, 100), config_version="chat@1"), None)
        )
    return traffic


def expected(calls: list[MetricReport], quality: list[float], seconds: float) -> dict[str, float]:
    """Each metric that has a value, worked out anew."""
    good = [made for made in calls if made.status_code < 400 and made.error_type is None]
    failed = len(calls) - len(good)
    found: dict[str, float] = {}
    if calls:
        costs = [made.cost_usd for made in calls if made.cost_usd is not None]
        found |= {
            "cost.avg": float(np.mean(costs)),
            "cost.total": sum(costs),
            "errors.rate": failed / len(calls),
            "errors.count": failed,
            "requests.count": len(calls),
            "requests.rate": len(calls) / seconds,
        }
    if good:
        latency = [made.latency_ms for made in good]
        found |= {f"latency.p{p}": float(np.percentile(latency, p)) for p in (50, 95, 99)}
        found["latency.avg"] = float(np.mean(latency))
        for name in ("input", "output", "total"):
            found[f"tokens.{name}"] = float(np.mean([getattr(made, f"tokens_{name}") for made in good]))
    if quality:
        found["quality.avg"] = float(np.mean(quality))
    return found


Cells = dict[tuple[Group, int], tuple[list[MetricReport], list[float]]]


def cells(traffic: Traffic, dimensions: list[str], period: Callable[[int], int]) -> Cells:
    """The traffic by group and period."""
    found: Cells = defaultdict(lambda: ([], []))
    for made in traffic.calls:
        group = tuple(LABELS[name](made) for name in dimensions)
        found[group, period(made.timestamp)][0].append(made)
    for score, judged in traffic.scores:
        labels = {name: LABELS[name](judged) if judged else None for name in dimensions} | {
            "service": score.service
        }
        if score.config_version is not None:
            labels["configVersion"] = score.config_version
        group = tuple(labels[name] for name in dimensions)
        found[group, period(score.timestamp)][1].append(score.overall_score)
    return found


def key(dimensions: list[str], group: Group, at: int) -> tuple[int, tuple[tuple[str, str], ...]]:
    named = [(name, value) for name, value in zip(dimensions, group, strict=True) if value is not None]
    return at, tuple(sorted(named))


def error_of(metric: str) -> float:
    return 0.01 if metric in PERCENTILES else 1e-9


TOTALS = ("requests.count", "requests.rate", "errors.count", "cost.total")


@pytest.mark.parametrize("interval", [None, 7 * MINUTE_MS, 90_000])
@pytest.mark.parametrize("dimensions", [[], *([label] for label in LABELS), ["endpoint", "tags.team"]])
async def test_every_metric_by_time_and_group(
    database: Database, keep: Keeper, dimensions: list[str], interval: int | None
) -> None:
    traffic = made_up()
    await keep(traffic.calls, [score for score, _ in traffic.scores])
    start, end = START + 10_000, START + 50 * MINUTE_MS + 1
    length = interval or end - start
    window = Traffic(
        [made for made in traffic.calls if start <= made.timestamp < end],
        [(score, made) for score, made in traffic.scores if start <= score.timestamp < end],
    )
    wanted: Answer = {name: {} for name in METRICS}
    seen = cells(window, dimensions, lambda at: start + (at - start) // length * length)
    for (group, at), (calls, quality) in seen.items():
        seconds = (min(at + length, end) - at) / 1000
        for name, value in expected(calls, quality, seconds).items():
            wanted[name][key(dimensions, group, at)] = value
    for group in {group for group, _ in seen}:
        for at in range(start, end, length):
            for name in TOTALS:
                wanted[name].setdefault(key(dimensions, group, at), 0.0)
    found = await ask(database, asked(*METRICS, start=start, end=end, groupBy=dimensions, interval=interval))
    for name in METRICS:
        assert found[name] == pytest.approx(wanted[name], rel=error_of(name)), name


FOLDS: dict[Aggregation, Callable[[list[float]], float]] = {
    "avg": lambda minutes: float(np.mean(minutes)),
    "sum": sum,
    "min": min,
    "max": max,
    "p95": lambda minutes: float(np.percentile(minutes, 95)),
    "p99": lambda minutes: float(np.percentile(minutes, 99)),
}


@pytest.mark.parametrize("aggregation", FOLDS)
@pytest.mark.parametrize("interval", [None, 7 * MINUTE_MS, MINUTE_MS])
async def test_values_of_minutes_are_folded(
    database: Database, keep: Keeper, aggregation: Aggregation, interval: int | None
) -> None:
    traffic = made_up(2)
    await keep(traffic.calls, [score for score, _ in traffic.scores])
    start, end = START + 10_000, START + 50 * MINUTE_MS + 20_000
    length = interval or end - start
    window = Traffic(
        [made for made in traffic.calls if start <= made.timestamp < end],
        [(score, made) for score, made in traffic.scores if start <= score.timestamp < end],
    )
    minutes: dict[str, dict[Any, list[float]]] = {name: defaultdict(list) for name in METRICS}
    seen = cells(window, ["model"], lambda at: at // MINUTE_MS * MINUTE_MS)
    for (group, minute), (calls, quality) in seen.items():
        begin = max(minute, start)
        seconds = (min(minute + MINUTE_MS, end) - begin) / 1000
        at = start + (begin - start) // length * length
        for name, value in expected(calls, quality, seconds).items():
            minutes[name][key(["model"], group, at)].append(value)
    found = await ask(
        database,
        asked(*METRICS, start=start, end=end, groupBy=["model"], aggregation=aggregation, interval=interval),
    )
    for name in METRICS:
        wanted = {where: FOLDS[aggregation](folded) for where, folded in minutes[name].items()}
        if aggregation == "sum" and name in TOTALS:
            everywhere = [(group, at) for group, _ in seen for at in range(start, end, length)]
            wanted = {key(["model"], *where): 0.0 for where in everywhere} | wanted
        assert found[name] == pytest.approx(wanted, rel=error_of(name)), name


async def test_the_window_is_by_the_reports_own_time_whatever_their_order_of_arrival(
    database: Database,
) -> None:
    end = START + MINUTE_MS
    times = [end, START, end - 1, START - 1, START + 30_000]
    await store(database, [call(at) for at in times])
    assert await values(database, "requests.count", end=end) == [3]


async def test_a_report_from_a_clock_that_is_ahead_is_found(database: Database) -> None:
    pool = await database.pool()
    now = round((await pool.fetchval("SELECT extract(epoch FROM clock_timestamp())")) * 1000)
    await store(database, [call(now + 299_000)])
    assert await values(database, "requests.count", start=now + 299_000, end=now + 299_001) == [1]


async def test_only_the_asked_services_count(database: Database) -> None:
    await store(database, [call(service=name) for name in ("chat", "chat", "search", "mail")])
    await store(
        database, scores=[QualityEvaluation(START, "mail", 10.0), QualityEvaluation(START, "chat", 90.0)]
    )
    asked_for = ["chat", "search"]
    assert await values(database, "requests.count", "quality.avg", services=asked_for) == [3, 90]
    assert await values(database, "requests.count", "quality.avg", services=[]) == [4, 50]


async def test_an_unknown_cost_is_no_cost_of_nothing(database: Database) -> None:
    await store(database, [call(cost_usd=0.5), call(cost_usd=0.1, service="search")])
    await forget_costs(database, "search")
    found = await ask(database, asked("cost.total", "cost.avg", "requests.count"))
    assert [list(points.values()) for points in found.values()] == [[0.5], [0.5], [2]]
    found = await ask(database, asked("cost.total", "cost.avg", groupBy=["service"]))
    chat = {(START, (("service", "chat"),)): 0.5}
    assert found == {"cost.total": chat, "cost.avg": chat}


async def test_failed_calls_count_for_neither_latency_nor_tokens(database: Database) -> None:
    await store(database, [call(latency_ms=9_999.0, tokens_input=9, error_type="timeout")])
    found = await ask(database, asked("latency.p95", "tokens.input", "errors.rate", "cost.avg"))
    assert {name: list(points.values()) for name, points in found.items()} == {
        "latency.p95": [],
        "tokens.input": [],
        "errors.rate": [1.0],
        "cost.avg": [0.002],
    }


async def test_without_any_request_totals_are_0_and_the_rest_is_unknown(database: Database) -> None:
    interval = {"interval": 30 * MINUTE_MS}
    found = await ask(database, asked(*METRICS, **interval))
    halves = {(START, ()): 0.0, (START + 30 * MINUTE_MS, ()): 0.0}
    assert found == {name: halves if name in TOTALS else {} for name in METRICS}
    found = await ask(database, asked(*METRICS, **interval, aggregation="max"))
    assert found == {name: {} for name in METRICS}
    found = await ask(database, asked(*METRICS, **interval, groupBy=["service"]))
    assert found == {name: {} for name in METRICS}


async def test_short_names_mean_the_full_ones_and_are_answered_as_asked(database: Database) -> None:
    await store(database, [call(latency_ms=float(ms)) for ms in range(101)])
    found = await ask(database, asked("latency", "latency.p95", "errors", "cost"))
    assert {name: list(points.values()) for name, points in found.items()} == {
        "latency": [pytest.approx(95.0, rel=0.01)],
        "latency.p95": [pytest.approx(95.0, rel=0.01)],
        "errors": [0.0],
        "cost": [pytest.approx(0.002)],
    }


async def test_names_of_tags_are_data_and_never_sql(database: Database) -> None:
    names = ["it's", 'a"b', "$1", ":since", "x'; DROP TABLE quality; --", "a,b", "\\", "ünï"]
    await store(database, [call(tags={name: f"<{name}>" for name in names})])
    for name in names:
        found = await ask(database, asked("requests.count", groupBy=[f"tags.{name}"]))
        assert found["requests.count"] == {(START, ((f"tags.{name}", f"<{name}>"),)): 1.0}


async def test_a_score_without_a_request_has_its_own_tags(database: Database) -> None:
    await store(database, scores=[QualityEvaluation(START, "chat", 70.0, tags={"team": "red"})])
    found = await ask(database, asked("quality.avg", groupBy=["tags.team", "model"]))
    assert found["quality.avg"] == {(START, (("tags.team", "red"),)): 70.0}


async def test_too_many_groups_or_points_are_refused(database: Database) -> None:
    count = series.MAX_GROUPS + 1
    await store(database, [call(tags={"user": str(number)}) for number in range(count)])
    by_user: dict[str, Any] = {"groupBy": ["tags.user"]}
    with pytest.raises(InvalidRequest, match=r"^groupBy: more than 500 groups"):
        await ask(database, asked("requests.count", **by_user))
    pool = await database.pool()
    await pool.execute("DELETE FROM metrics WHERE tags ->> 'user' = '0'")
    assert len((await ask(database, asked("requests.count", **by_user)))["requests.count"]) == 500
    with pytest.raises(InvalidRequest, match=r"^interval: 120 intervals of 1 metrics for 500 groups"):
        await ask(database, asked("requests.count", **by_user, interval=30_000))


async def test_a_query_that_takes_too_long_is_ended(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await database.pool()
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE metrics")
        with monkeypatch.context() as patch:
            patch.setattr(analytics, "QUERY_SECONDS", 0.05)
            with pytest.raises(TimedOut, match=r"longer than 0\.05 s"):
                await ask(database, asked("requests.count"))
    assert await values(database, "requests.count") == [0]


async def test_a_query_of_many_short_statements_is_ended_as_well(database: Database) -> None:
    async def fetch() -> None:
        async with database.transaction() as session, deadline(session, 0.3):
            for _ in range(100):
                await session.execute(text("SELECT pg_sleep(0.05)"))

    with pytest.raises(TimedOut, match=r"longer than 0\.3 s"):
        await fetch()
    assert await values(database, "requests.count") == [0]


async def spread(database: Database, minutes: int, services: int) -> int:
    """A report a minute of each of some services up to now, rolled up; gives when they end (ms)."""
    pool = await database.pool()
    end: datetime = await pool.fetchval("SELECT date_trunc('minute', clock_timestamp())")
    await pool.execute(
        """
        INSERT INTO metrics (received_at, ts, service, endpoint, provider, model, latency_ms, tokens_input,
                             tokens_output, tokens_total, status_code)
        SELECT $1::timestamptz - interval '3 hours', $1 - n * interval '1 minute', 'service-' || s, '/', 'p',
               'm', n % 2, 1, 1, 2, 200
        FROM generate_series(1, $2::int) n, generate_series(1, $3::int) s
        """,
        *(end, minutes, services),
    )
    await roll_up(database)
    return round(end.timestamp() * 1000)


async def test_ninety_days_are_folded_minute_by_minute(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = await spread(database, 90 * 24 * 60, 1)
    # How long it takes is the benchmark's affair.
    monkeypatch.setattr(analytics, "QUERY_SECONDS", 120)
    window = {"start": end - 90 * DAY_MS, "end": end}
    folded = await values(database, "requests.count", "latency.p95", **window, aggregation="sum")
    assert folded == [129_600, pytest.approx(64_800, rel=0.01)]


async def test_too_many_minutes_are_refused_before_any_is_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = await spread(database, 24 * 60, 3)
    folded: dict[str, Any] = {"start": end - DAY_MS, "end": end, "aggregation": "avg"}
    by_service = asked("requests.count", **folded, groupBy=["service"])
    monkeypatch.setattr(analytics, "MAX_MINUTES", 2 * 24 * 60)
    pool = await database.pool()
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE rollup_minutes")
        with pytest.raises(InvalidRequest, match=r"^aggregation: up to 4,\d+ minutes of groups"):
            await ask(database, by_service)
        monkeypatch.setattr(analytics, "MAX_SERIES_MINUTES", 2 * 24 * 60)
        with pytest.raises(InvalidRequest, match=r"^aggregation: up to 4,\d+ minutes of series"):
            await ask(database, asked("requests.count", **folded))
    monkeypatch.setattr(analytics, "MAX_MINUTES", 4 * 24 * 60)
    monkeypatch.setattr(analytics, "MAX_SERIES_MINUTES", 4 * 24 * 60)
    assert set((await ask(database, by_service))["requests.count"].values()) == {1.0}


async def test_reports_that_rollups_cannot_tell_of_are_refused_where_they_are_many(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = await spread(database, 24 * 60, 1)
    window: dict[str, Any] = {"start": end - DAY_MS, "end": end}
    monkeypatch.setattr(analytics, "MAX_REPORTS", 400)
    with pytest.raises(InvalidRequest, match=r"^groupBy: by a tag, some 1,4\d\d reports"):
        await ask(database, asked("requests.count", **window, groupBy=["tags.team"]))
    with pytest.raises(InvalidRequest, match=r"^interval: .* some 4\d\d reports"):
        await ask(database, asked("requests.count", **window, interval=90_000))
    assert await values(database, "requests.count", **window) == [1_440]


async def test_partitions_of_days_before_the_window_are_not_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await database.pool()
    day = await pool.fetchval("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")
    now = round((await pool.fetchval("SELECT extract(epoch FROM clock_timestamp())")) * 1000)
    monkeypatch.setattr(analytics, "QUERY_SECONDS", 2)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(f"LOCK TABLE metrics_{day:%Y%m%d}, rollup_minutes_{day:%Y%m%d}")
        later = {"start": now + 2 * DAY_MS, "end": now + 3 * DAY_MS}
        assert await values(database, "requests.count", **later) == [0]
        with pytest.raises(TimedOut):
            await values(database, "requests.count", start=now, end=now + 1)
