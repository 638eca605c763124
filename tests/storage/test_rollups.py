"""Rollups: every report counts exactly once, whenever it comes and whoever rolls it up."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from domain.analytics import DAY_MS, HOUR_MS, MINUTE_MS
from domain.reports import QualityEvaluation
from domain.totals import Totals
from storage import rollup_reader, rollups, samples
from storage.database import Database
from storage.partitions import ensure_day
from storage.rollup_reader import Cell, Question, Span
from tests.activities.reports import prepare
from tests.storage.calls import START, call, roll_up, store

LEVELS = ("rollup_minutes", "rollup_hours", "rollup_days")


@pytest_asyncio.fixture(autouse=True)
async def days(database: Database) -> None:
    """Partitions from two days ago on."""
    await prepare(database)
    pool = await database.pool()
    async with pool.acquire() as connection:
        for table in ("metrics", "quality"):
            for ago in (1, 2):
                await ensure_day(connection, table, datetime.now(UTC).date() - timedelta(days=ago))


async def read(database: Database, *by: str, period: int | None = None) -> list[Cell]:
    span = Span(START - DAY_MS, START + DAY_MS, period, START)
    async with database.transaction() as session:
        question = Question(span, by=by, sketches=("latency",))
        found = [cell async for cell in rollup_reader.read(session, question)]
    assert len({(cell.at, cell.group) for cell in found}) == len(found)
    return found


async def cells(database: Database, *by: str) -> dict[tuple[str | None, ...], Totals]:
    return {cell.group: cell.totals for cell in await read(database, *by)}


async def rows(database: Database, table: str) -> int:
    pool = await database.pool()
    found: int = await pool.fetchval(f"SELECT count(*) FROM {table}")
    return found


async def test_reports_of_a_group_and_minute_become_one_row_on_each_level(database: Database) -> None:
    for hour in (50, 49, 25, 3):
        await store(database, [call(START + 1000 * second) for second in range(3)] * 5, ago_ms=hour * HOUR_MS)
    assert await roll_up(database) == 60
    # By the hour of their arrival, and by its day.
    assert [await rows(database, table) for table in LEVELS[:2]] == [4, 4]
    pool = await database.pool()
    whole_days = await pool.fetchval("""
        SELECT count(DISTINCT (arrived AT TIME ZONE 'UTC')::date) FROM rollup_hours, rollup_progress
        WHERE arrived < days_until
    """)
    assert await rows(database, "rollup_days") == whole_days >= 2
    assert (await cells(database))[()].n == 60
    assert await roll_up(database) == 0


async def test_what_comes_late_is_added_to_its_own_time(database: Database) -> None:
    calls = [call(START - HOUR_MS), call(), call(START + HOUR_MS, error_type="timeout")]
    for ago in (2 * DAY_MS, 5 * HOUR_MS, 120_000):
        await store(database, calls, ago_ms=ago)
    assert await roll_up(database) == 9
    await store(database, calls)
    for _ in range(2):
        found = await read(database, period=HOUR_MS)
        assert {cell.at: (cell.totals.n, cell.totals.errors) for cell in found} == {
            START - HOUR_MS: (4, 0),
            START: (4, 0),
            START + HOUR_MS: (4, 4),
        }
        await asyncio.sleep(1.2)  # beyond the margin, within which nothing is rolled up at all
        await roll_up(database)


async def test_a_status_alone_is_a_kind_of_error(database: Database) -> None:
    await store(database, [call(status_code=529), call(status_code=200)], ago_ms=5000)
    for _ in range(2):
        assert {group: totals.errors for group, totals in (await cells(database, "error")).items()} == {
            ("HTTP 529",): 1,
            (None,): 0,
        }
        await roll_up(database)


async def test_a_commit_that_is_under_way_is_not_passed_over(database: Database) -> None:
    await store(database, [call()], ago_ms=HOUR_MS)
    slow = await samples.connect_for_copy(database)
    transaction = slow.transaction()
    await transaction.start()
    stamp = await samples.clock(slow)
    await samples.copy_rows(slow, "metrics", samples.metric_rows([call()], lambda *_: None), stamp)
    await asyncio.sleep(1.2)  # beyond the margin, within which nothing is rolled up at all
    assert await roll_up(database) == 1
    await transaction.commit()
    await slow.close()
    assert (await cells(database))[()].n == 2
    assert await roll_up(database) == 1
    assert (await cells(database))[()].n == 2


async def test_a_clock_that_was_set_back_loses_nothing(database: Database) -> None:
    await store(database, [call()], ago_ms=5000)
    await roll_up(database)
    pool = await database.pool()
    await pool.execute("UPDATE rollup_progress SET requests_until = now() + interval '1 hour'")
    connection = await samples.connect_for_copy(database)
    stamp = await samples.clock(connection)
    await samples.copy_rows(connection, "metrics", samples.metric_rows([call()], lambda *_: None), stamp)
    await connection.close()
    assert (await cells(database))[()].n == 2
    assert await roll_up(database) == 0
    assert (await cells(database))[()].n == 2


async def test_many_may_roll_up_at_once(database: Database) -> None:
    for ago in range(20):
        await store(database, [call()] * 10, ago_ms=ago * HOUR_MS // 2 + 120_000)
    counts = await asyncio.gather(*(roll_up(database) for _ in range(5)))
    assert sum(counts) == 200
    assert (await cells(database))[()].n == 200


async def test_a_score_waits_for_its_request(database: Database) -> None:
    first = QualityEvaluation(START, "chat", 100.0, request_id="b")
    await store(database, [call(tags={"requestId": "b"})], [first], ago_ms=120_000)
    assert await roll_up(database) == 2
    await store(database, scores=[QualityEvaluation(START, "chat", 70.0, request_id="a")], ago_ms=30_000)
    assert await roll_up(database) == 0
    await store(database, [call(tags={"requestId": "a"})])
    found = (await cells(database, "model"))[("gpt-4o",)]
    assert (found.n, found.quality.n, found.quality.total, found.extremes) == (2, 2, 170.0, 1)


async def test_rollups_are_made_again_from_the_reports(database: Database) -> None:
    for ago in (2 * DAY_MS, DAY_MS, 3 * HOUR_MS, 120_000):
        await store(database, [call(latency_ms=ago / 1000)] * 3, ago_ms=ago)
    await roll_up(database)
    before = [(await rows(database, table)) for table in LEVELS]
    known = (await cells(database))[()]
    connection = await database.connect()
    await connection.execute("UPDATE rollup_minutes SET n = n + 7")
    await connection.execute("DELETE FROM rollup_hours")
    await rollups.rebuild(connection, datetime.now(UTC).date() - timedelta(days=3))
    assert [(await rows(database, table)) for table in LEVELS] == [0, 0, 0]
    assert (await cells(database))[()].n == 12
    assert await roll_up(database) == 12
    await connection.close()
    assert [(await rows(database, table)) for table in LEVELS] == before
    again = (await cells(database))[()]
    assert again.n == known.n
    assert again.latency.total == pytest.approx(known.latency.total)


async def test_pieces_are_cut_where_the_question_cuts(database: Database) -> None:
    await store(database, [call(START + second * 1000) for second in range(0, 7200, 7)], ago_ms=3 * HOUR_MS)
    await roll_up(database)
    for period in (MINUTE_MS, 90_000, HOUR_MS, 7_777_000):
        for origin in (0, START + 12_345):
            question = Question(Span(START + 33_333, START + 6_000_123, period, origin))
            async with database.transaction() as session:
                found = {cell.at: cell.totals.n async for cell in rollup_reader.read(session, question)}
            wanted: dict[int, int] = {}
            for second in range(0, 7200, 7):
                at = START + second * 1000
                if question.span.start <= at < question.span.end:
                    piece = max(at - (at - origin) % period, question.span.start)
                    wanted[piece] = wanted.get(piece, 0) + 1
            assert found == wanted


async def test_the_block_indexes_know_today_s_reports(database: Database) -> None:
    await store(database, [call()] * 10)
    connection = await database.connect()
    await rollups.summarize(connection)
    name = f"metrics_{datetime.now(UTC):%Y%m%d}_ts_received_at_idx"
    again = await connection.fetchval("SELECT brin_summarize_new_values($1::regclass)", name)
    await connection.close()
    assert again == 0
