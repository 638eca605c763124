"""What decisions read of the reports: a service's history by version and model, its rate, its traffic."""

import pytest
import pytest_asyncio
from sqlalchemy import event

from domain.analytics import DAY_MS, HOUR_MS, MINUTE_MS
from domain.conditions import WINDOW_MS
from storage import observations, rollouts, rollup_sql
from storage.database import Database
from storage.observations import Group
from tests.activities.reports import prepare, requests, score
from tests.storage.calls import call, roll_up, store
from tests.storage.records import config, first_config

OLD, NEW = config(), config("gpt-4o-mini")


@pytest_asyncio.fixture(autouse=True)
async def partitions(database: Database) -> None:
    await prepare(database)


async def history(database: Database) -> dict[tuple[str | None, str], Group]:
    async with database.transaction() as session:
        now = await rollouts.clock(session)
        groups = await observations.history(session, "chat", since=now - DAY_MS, until=now + DAY_MS)
    found = {(group.version, group.model): group for group in groups}
    assert len(found) == len(groups)
    return found


async def test_history_is_by_version_and_model(database: Database) -> None:
    await requests(database, 3, version="chat@1", latency_ms=100.0, failed=1)
    await requests(database, 4, version="chat@2", of=NEW, latency_ms=200.0, cost_usd=None)
    await requests(database, 5, version=None, of=NEW)
    await requests(database, 6, version="chat@1", of=NEW)
    await requests(database, 7, version="chat@1", service="search")
    found = await history(database)
    assert {key: group.totals.n for key, group in found.items()} == {
        ("chat@1", "gpt-4o"): 3,
        ("chat@2", "gpt-4o-mini"): 4,
        (None, "gpt-4o-mini"): 5,
        ("chat@1", "gpt-4o-mini"): 6,
    }
    first = found["chat@1", "gpt-4o"].totals
    assert (first.n, first.errors, first.latency.n, first.latency.total) == (3, 1, 2, 200.0)
    assert (first.cost.n, first.tokens_output.n, first.tokens_output.mean) == (3, 2, 100)
    assert found["chat@2", "gpt-4o-mini"].totals.cost.n == 0


async def test_scores_belong_to_the_version_they_name_or_to_that_of_their_request(
    database: Database,
) -> None:
    await requests(database, version="chat@1", request_id="a")
    await requests(database, version="chat@2", of=NEW, request_id="b")
    await requests(database, version=None, of=NEW, request_id="c")
    await score(database, 10.0, request_id="a")
    await score(database, 20.0, request_id="b")
    await score(database, 30.0, request_id="c")
    await score(database, 40.0, version="chat@1")
    await score(database, 50.0, version="chat@2", request_id="a")
    found = await history(database)
    quality = {key: group.totals.quality for key, group in found.items()}
    assert {key: (scores.n, scores.total, scores.squares) for key, scores in quality.items()} == {
        ("chat@1", "gpt-4o"): (2, 50.0, 1_700.0),
        ("chat@2", "gpt-4o-mini"): (2, 70.0, 2_900.0),
        (None, "gpt-4o-mini"): (1, 30.0, 900.0),
    }


async def test_an_endpoint_with_a_configuration_of_its_own_is_no_part_of_its_service(
    database: Database,
) -> None:
    await first_config(database, "chat")
    await first_config(database, "chat:summarize")
    await requests(database, 3, version="chat@1")
    await requests(database, 30, version="chat:summarize@1", endpoint="summarize")
    found = await history(database)
    assert {key: group.totals.n for key, group in found.items()} == {("chat@1", "gpt-4o"): 3}
    async with database.transaction() as session:
        served = await observations.traffic(session, "chat", [60_000, 3_600_000])
    assert [(window, n) for window, n, _ in served] == [(60_000, 3), (3_600_000, 3)]
    assert served[0][2] == pytest.approx(0.006)


async def test_the_rate_of_a_burst_is_spread_over_half_a_minute(database: Database) -> None:
    await requests(database, 60, version="chat@1")
    async with database.transaction() as session:
        rate = await observations.request_rate(session, "chat", step_seconds=300.0)
        nobody = await observations.request_rate(session, "search", step_seconds=300.0)
    assert rate is not None
    assert 1.5 < rate <= 2.0
    assert nobody is None


async def test_a_score_finds_its_request_by_id_in_a_day_that_the_planner_knows_nothing_of(
    database: Database,
) -> None:
    await requests(database, 10_000, version="chat@1")
    await score(database, 10.0, request_id="of-nobody")
    pool = await database.pool()
    joined = rollup_sql.request_of_score("timestamptz '2020-01-01'")
    plan = await pool.fetch(f"EXPLAIN SELECT m.model FROM quality q {joined}")
    conditions = [line for (line,) in plan if "Index Cond" in line]
    assert conditions
    assert all("request_id = q.request_id" in condition for condition in conditions)


@pytest.mark.parametrize("rolled", [False, True])
async def test_all_windows_are_read_in_one_statement(database: Database, rolled: bool) -> None:
    pool = await database.pool()
    minute = await pool.fetchval("SELECT date_trunc('minute', clock_timestamp())")
    ago = {20_000: 1, 4 * MINUTE_MS: 2, 50 * MINUTE_MS: 4, 20 * HOUR_MS: 8, 6 * DAY_MS: 16, 8 * DAY_MS: 32}
    reported = {round(minute.timestamp() * 1000) - age: count for age, count in ago.items()}
    for at, count in reported.items():
        await store(database, [call(at, tags={"configVersion": "chat@1"})] * count)
    if rolled:
        await roll_up(database)
    read: list[str] = []
    async with database.transaction() as session:
        connection = (await session.connection()).sync_connection
        event.listen(connection, "before_cursor_execute", lambda _c, _u, sql, *_: read.append(sql))
        windows = await observations.windows(session, "chat")
    assert sum("FROM metrics" in sql for sql in read) == 1
    expected = [
        sum(n for at, n in reported.items() if windows.until - length <= at < windows.until)
        for length in WINDOW_MS.values()
    ]
    assert sum(expected) > 0
    assert [reading.requests for reading in windows.service] == expected
    assert [(of.version, [w.requests for w in of.windows if w.requests]) for of in windows.versions] == [
        ("chat@1", [n for n in expected if n])
    ]
