"""Detection over what was reported: each window once and in its order, episodes kept, events told."""

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import select

from domain.analysis.watched import WATCHED_WINDOWS, WatchedWindow
from domain.analytics import DAY_MS, HOUR_MS, MINUTE_MS
from domain.metrics import WATCHED
from domain.times import moment
from infra.embedded import EmbeddedStack
from storage import analysis, detection, progress, services
from storage.database import Database
from storage.detection import Advance
from storage.tables import AnomalyEpisode, SeriesState
from tests.storage import minutes
from tests.storage.clocks import settable_clock
from tests.storage.records import events, first_config

SHIFTED = (70, 40)
"""The minutes ago between which latency was three times as high."""


@pytest_asyncio.fixture
async def now(database: Database) -> int:
    async with database.transaction() as session:
        await services.note(session, ["chat"])
    return await minutes.clock(database)


async def shifted(database: Database, now: int, *, hours: int = 3, after_minutes: int = 0) -> None:
    """Hours of even traffic, but for half an hour of slow answers."""
    began, ended = (now - ago * MINUTE_MS for ago in SHIFTED)
    await minutes.had(database, now - hours * HOUR_MS, began)
    await minutes.had(database, began, ended, latency_ms=300.0)
    await minutes.had(database, ended, now + after_minutes * MINUTE_MS)
    await minutes.roll_up(database)


async def advance(database: Database, window: WatchedWindow = "1m", end: int | None = None) -> Advance | None:
    async with database.transaction() as session:
        return await detection.advance(session, window, end)


async def catch_up(database: Database, *windows: WatchedWindow, end: int | None = None) -> list[Advance]:
    """Read windows until none is left; gives the batches."""
    batches = []
    for window in windows or WATCHED_WINDOWS:
        while (batch := await advance(database, window, end)) is not None:
            batches.append(batch)
    return batches


async def episodes(database: Database, *metrics: str) -> Sequence[AnomalyEpisode]:
    query = select(AnomalyEpisode).order_by(AnomalyEpisode.started_at, AnomalyEpisode.metric)
    async with database.transaction() as session:
        rows = (await session.execute(query)).scalars().all()
    return [row for row in rows if not metrics or row.metric in metrics]


def told(row: AnomalyEpisode) -> dict[str, Any]:
    """All of an episode but its id."""
    return {name: value for name, value in vars(row).items() if not name.startswith("_") and name != "id"}


async def states(database: Database) -> dict[tuple[str, str, str], bytes]:
    async with database.transaction() as session:
        rows = (await session.execute(select(SeriesState))).scalars()
        return {(row.service, row.window, row.metric): row.state for row in rows}


async def test_a_shift_is_one_anomaly_with_one_event_and_ends(database: Database, now: int) -> None:
    await first_config(database, "chat")
    await shifted(database, now)
    await catch_up(database, "1m")
    found = {row.metric: row for row in await episodes(database)}
    assert set(found) == {"latency.avg", "latency.p95"}
    row = found["latency.avg"]
    assert row.started_at == now - SHIFTED[0] * MINUTE_MS
    assert row.last_at < now - SHIFTED[1] * MINUTE_MS
    assert row.ended_at is not None
    assert now - SHIFTED[1] * MINUTE_MS <= row.ended_at <= now - (SHIFTED[1] - 5) * MINUTE_MS
    assert (row.direction, row.harmful, row.severity) == ("up", True, "critical")
    assert row.value == pytest.approx(299, abs=2)
    assert row.low < 100 < row.high < 150
    (event,) = [
        event for event in await events(database, "anomaly.detected") if event.data["metric"] == "latency.avg"
    ]
    assert event.scope == "chat"
    assert event.data == {
        "metric": "latency.avg",
        "value": pytest.approx(row.value),
        "expectedRange": {"min": row.low, "max": row.high},
        "severity": "critical",
        "confidence": pytest.approx(row.confidence, abs=0.1),
        "detectorType": row.detector,
    }


async def test_the_same_shift_seen_in_longer_windows_is_told_once(database: Database, now: int) -> None:
    await shifted(database, now, hours=5)
    await catch_up(database)
    found = await episodes(database, "latency.avg")
    assert {row.window for row in found} == {"1m", "5m"}
    assert [row.announced is not None for row in sorted(found, key=lambda row: row.window)] == [True, False]
    heard = [event.data["metric"] for event in await events(database, "anomaly.detected")]
    assert sorted(heard) == ["latency.avg", "latency.p95"]


async def test_a_restart_in_the_middle_changes_nothing(
    database: Database, now: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shifted(database, now)
    end = now - detection.MARGIN_MS
    await catch_up(database, "1m", end=end)
    whole, whole_states = [told(row) for row in await episodes(database)], await states(database)
    heard = [event.data for event in await events(database)]
    pool = await database.pool()
    await pool.execute("TRUNCATE analysis_progress, series_states, anomalies, events")
    # Each batch is another process's, which knows what is stored and nothing else.
    monkeypatch.setattr(detection, "MOST_WINDOWS", 47)
    another = Database(database.dsn)
    batches = await catch_up(another, "1m", end=end)
    await another.close()
    assert len(batches) >= 4
    assert [told(row) for row in await episodes(database)] == whole
    assert await states(database) == whole_states
    assert [event.data for event in await events(database)] == heard


async def test_windows_that_are_too_thin_are_not_read(database: Database, now: int) -> None:
    await minutes.had(database, now - 2 * HOUR_MS, now, per_minute=19, scores=9)
    await minutes.had(
        database, now - 2 * HOUR_MS, now, service="mail", per_minute=20, scores=10, version=None
    )
    await minutes.roll_up(database)
    await catch_up(database, "1m")
    read: dict[str, set[str]] = {"chat": set(), "mail": set()}
    for service, _, metric in await states(database):
        read[service].add(metric)
    assert read == {"chat": {"requests.rate"}, "mail": set(WATCHED)}


async def test_a_window_counts_when_its_margin_is_over_and_what_comes_later_does_not(
    database: Database, now: int
) -> None:
    await minutes.had(database, now - HOUR_MS, now)
    until = now - 30 * MINUTE_MS
    first = await advance(database, end=until + 1)
    assert first is not None
    assert (first.until, first.behind) == (until, 0)
    before = await states(database)
    # Late for the windows that were read.
    await minutes.had(database, now - 50 * MINUTE_MS, now - 40 * MINUTE_MS, latency_ms=9_000.0)
    assert await advance(database, end=until) is None
    assert await states(database) == before
    *_, last = await catch_up(database, "1m")
    assert now - 3 * MINUTE_MS < last.until <= await minutes.clock(database) - detection.MARGIN_MS
    assert await episodes(database) == []


async def test_two_workers_read_each_window_once(database: Database, now: int) -> None:
    await shifted(database, now)
    batches = await asyncio.gather(*(advance(database, "1m") for _ in range(4)))
    ends = [batch.until for batch in batches if batch is not None]
    assert len(ends) == len(set(ends)) >= 1
    assert len(await episodes(database)) == 2
    assert len(await events(database, "anomaly.detected")) == 2


async def test_a_backlog_is_read_in_its_order_and_some_at_a_time(
    database: Database, now: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shifted(database, now)
    monkeypatch.setattr(detection, "MOST_WINDOWS", 50)
    batches = await catch_up(database, "1m")
    ends = [batch.until for batch in batches]
    assert ends == sorted(ends)
    assert batches[-1].behind == 0
    assert batches[0].behind >= 100


async def test_what_is_long_over_is_kept_without_an_event(database: Database, now: int) -> None:
    await shifted(database, now - 2 * HOUR_MS, after_minutes=120)
    await catch_up(database, "1m")
    assert len(await episodes(database, "latency.avg")) == 1
    assert [event.data for event in await events(database, "anomaly.detected")] == []


async def test_a_service_that_falls_silent_has_a_rate_of_zero(database: Database, now: int) -> None:
    await minutes.had(database, now - 3 * HOUR_MS, now - HOUR_MS)
    await minutes.roll_up(database)
    await catch_up(database, "1m")
    (row,) = await episodes(database)
    assert (row.metric, row.direction, row.value) == ("requests.rate", "down", 0)
    assert row.started_at == now - HOUR_MS


async def test_an_anomaly_ends_when_nothing_more_is_heard_of_its_series(
    database: Database, now: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = now - 7 * HOUR_MS
    await minutes.had(database, silent - 3 * HOUR_MS, silent - 10 * MINUTE_MS)
    await minutes.had(database, silent - 10 * MINUTE_MS, silent, latency_ms=900.0)
    pool = await database.pool()
    await pool.execute("INSERT INTO analysis_progress VALUES ('1m', $1)", moment(silent - 3 * HOUR_MS))
    await catch_up(database, "1m")
    (row,) = await episodes(database, "latency.avg")
    assert row.ended_at == silent
    # It speaks again, and is as it was before.
    before = await states(database)
    await minutes.had(database, now - 2 * MINUTE_MS, now)
    await pool.execute("UPDATE analysis_progress SET until = $1", moment(now - 2 * MINUTE_MS))
    monkeypatch.setattr(detection, "MARGIN_MS", 0)
    await catch_up(database, "1m")
    assert (await states(database))["chat", "1m", "latency.avg"] != before["chat", "1m", "latency.avg"]
    (row,) = await episodes(database, "latency.avg")
    assert row.ended_at == silent


async def test_errors_are_judged_by_their_counts(database: Database, now: int) -> None:
    await minutes.had(database, now - 3 * HOUR_MS, now - HOUR_MS)
    # One failure of twenty is a rate without precedent, and no more than chance.
    await minutes.had(database, now - HOUR_MS, now - 50 * MINUTE_MS, failed=1)
    await minutes.had(database, now - 50 * MINUTE_MS, now - 40 * MINUTE_MS)
    await minutes.had(database, now - 40 * MINUTE_MS, now - 20 * MINUTE_MS, failed=10)
    await minutes.roll_up(database)
    await catch_up(database, "1m")
    (row,) = await episodes(database, "errors.rate")
    assert row.started_at == now - 40 * MINUTE_MS
    assert row.high <= 1


async def test_what_is_open_and_what_was(database: Database, now: int) -> None:
    began = now - 20 * MINUTE_MS
    await minutes.had(database, now - 2 * HOUR_MS, began)
    await minutes.had(database, began, now, latency_ms=400.0)
    await minutes.roll_up(database)
    await catch_up(database)
    async with database.transaction() as session:
        opened = (await analysis.open_anomalies(session, ["chat", "nobody"]))["chat"]
        between = await analysis.anomalies_between(session, "chat", began - HOUR_MS, began + 1)
        before = await analysis.anomalies_between(session, "chat", began - HOUR_MS, began - 5 * MINUTE_MS)
    assert set(opened) == {"latency.avg", "latency.p95"}
    assert opened["latency.avg"].started_at == began
    assert opened["latency.avg"].ended_at is None
    assert {anomaly.metric for anomaly in between} == set(opened)
    assert before == []


async def test_what_ended_long_ago_and_who_fell_silent_is_forgotten(database: Database, now: int) -> None:
    await shifted(database, now)
    await catch_up(database)
    pool = await database.pool()
    await pool.execute(
        "UPDATE anomalies SET ended_at = now() - interval '91 days' WHERE metric = 'latency.avg'"
    )
    await pool.execute(
        "UPDATE series_states SET seen_at = now() - interval '31 days' WHERE window_name = '5m'"
    )
    async with database.transaction() as session:
        await detection.purge(session)
    assert {row.metric for row in await episodes(database)} == {"latency.p95"}
    assert {window for _, window, _ in await states(database)} == {"1m", "1h"}


async def test_no_more_is_read_at_first_than_it_takes_to_know_a_series(database: Database, now: int) -> None:
    await minutes.had(database, now - DAY_MS, now, per_minute=1)
    await minutes.roll_up(database)
    read = await advance(database, "1m")
    assert read is not None
    assert read.steps == detection.WARM_UP_MS["1m"] // MINUTE_MS


async def test_a_clock_that_was_ahead_keeps_no_series_from_being_watched(
    database: Database, now: int, stack: EmbeddedStack
) -> None:
    connection = await asyncpg.connect(stack.database_url)
    await shifted(database, now)
    await catch_up(database, "1m")
    async with settable_clock(connection) as clock:
        await clock.set(days_ahead=10)
        ahead = Database(stack.database_url)
        await catch_up(ahead, "1m")
        await ahead.close()
    await connection.close()
    back = Database(stack.database_url)
    assert await advance(back) is None, "it goes on from now"
    async with back.transaction() as session:
        rows = (await session.execute(select(SeriesState))).scalars().all()
        assert rows
        assert max(max(row.until, row.seen_at) for row in rows) <= now
        assert await progress.until(session, "1m") == now - detection.MARGIN_MS
    await back.close()
