"""The analysis as it runs: by its schedules and workflows on a real worker, and within an optimization."""

import asyncio
from datetime import timedelta

import pytest
import pytest_asyncio
from temporalio.client import Client

from activities import problems
from domain.analytics import DAY_MS, HOUR_MS, MINUTE_MS
from domain.policy import ServicePolicy
from storage import analysis, baselines, detection, progress, services
from storage.database import Database
from tests.storage import minutes
from tests.storage.records import events, first_config
from tests.waiting import until
from worker.run import running_worker
from workflows import ids
from workflows import messages as m


@pytest_asyncio.fixture
async def now(database: Database) -> int:
    async with database.transaction() as session:
        await services.note(session, ["chat", "mail"])
    await first_config(database, "chat")
    return await minutes.clock(database)


async def shifted(database: Database, now: int) -> None:
    """Two hours of traffic, answered slowly for a quarter of an hour now."""
    began = now - 15 * MINUTE_MS
    await minutes.had(database, now - 2 * HOUR_MS, began)
    await minutes.had(database, began, now, latency_ms=400.0)
    await minutes.roll_up(database)


async def run(client: Client, workflow: str, number: int = 0) -> list[str]:
    result = await client.execute_workflow(
        workflow,
        m.HousekeepingInput(),
        result_type=m.HousekeepingResult,
        id=f"test/{workflow}/{number}",
        task_queue=ids.TASK_QUEUE,
    )
    return list(result.notes)


@pytest.mark.usefixtures("unscheduled")
async def test_the_schedules_have_it_done(database: Database, temporal: Client, now: int) -> None:
    await minutes.had(database, now - 2 * HOUR_MS, now)

    async def done() -> bool:
        async with database.transaction() as session:
            read = await progress.until(session, "1h")
            return read is not None and len(await baselines.stored(session, ["chat"])) >= 2

    async with running_worker(database, temporal, step_seconds=1.0):
        await until(done)
    for schedule_id, every in ((ids.ANALYZE, timedelta(minutes=1)), (ids.COMPARE, timedelta(minutes=15))):
        described = await temporal.get_schedule_handle(schedule_id).describe()
        assert [interval.every for interval in described.schedule.spec.intervals] == [every]


async def test_workflows_find_what_there_is_once_however_many_run(
    database: Database, temporal: Client, now: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shifted(database, now)
    # So that a run takes several batches, between which another's may come.
    monkeypatch.setattr(detection, "MOST_WINDOWS", 40)
    async with running_worker(database, temporal, step_seconds=1.0, housekeeping=False):
        first = await asyncio.gather(*(run(temporal, "Analyze", number) for number in range(3)))
        again = await run(temporal, "Analyze", 3)
        measured = await run(temporal, "Compare")
    assert any(note.startswith("1m: ") for notes in first for note in notes)
    assert all(" 0 told" in note for note in again)
    heard = [
        (event.data["metric"], event.data["severity"]) for event in await events(database, "anomaly.detected")
    ]
    assert {metric for metric, _ in heard} == {"latency.avg", "latency.p95"}
    assert len(heard) == len(set(heard))
    async with database.transaction() as session:
        opened = await analysis.open_anomalies(session, ["chat"])
        mark = await progress.until(session, "1m")
    assert set(opened["chat"]) == {"latency.avg", "latency.p95"}
    assert mark is not None
    assert mark >= now - 3 * MINUTE_MS
    assert measured[0].endswith("baselines measured")
    assert measured[1].endswith("services compared")


async def test_a_run_observes_its_windows_and_analyses_against_the_past(database: Database, now: int) -> None:
    for day in range(4, 0, -1):
        since = now - day * DAY_MS
        await minutes.had(database, since, since + DAY_MS, per_minute=0.5, latency_ms=100.0 + day)
    await minutes.had(database, now - 4 * HOUR_MS, now - HOUR_MS, per_minute=1, latency_ms=900.0)
    await minutes.had(database, now - 100 * MINUTE_MS, now - 95 * MINUTE_MS, version=None, cost_usd=None)
    policy = ServicePolicy(service="chat")
    observed = await problems.observe(database, "chat", policy)
    assert observed is not None
    windows = observed.windows
    assert windows is not None
    by_window = {reading.window: reading for reading in windows.service}
    assert list(by_window) == ["1m", "5m", "15m", "1h", "24h", "7d"]
    assert by_window["24h"].requests == pytest.approx(30 * 24 + 180 + 150, abs=5)
    assert by_window["7d"].requests == pytest.approx(30 * 96 + 180 + 150, abs=5)
    lacking = {one.metric: one.reason for one in by_window["1m"].missing}
    assert "fewer than 20" in lacking["latency.p95"] or lacking["latency.p95"] == "no successful requests"
    assert lacking["quality.avg"] == "no scores"
    versions = {found.version: found for found in windows.versions}
    assert set(versions) == {"chat@1", None}
    unnamed = {reading.window: reading for reading in versions[None].windows}
    assert unnamed["24h"].requests == 150
    assert {"cost.avg": "no call's cost is known"}.items() <= {
        one.metric: one.reason for one in unnamed["24h"].missing
    }.items()
    assert len(observed.model_dump_json()) < 64_000
    async with database.transaction() as session:
        found = await problems.analyze(session, "chat", observed, policy)
    changes = {change.metric: change for change in found.changes}
    latency = changes["latency.avg"]
    assert (latency.method, latency.significant) == ("pre-change", True) or latency.method == "same-hour"
    assert latency.change is not None
    assert latency.change > 1
    assert {one.metric for one in found.untested} == {"quality.avg"}
    assert found.in_words().startswith(found.standing.in_words())
    assert len(found.model_dump_json()) < 64_000
