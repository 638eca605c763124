"""Rollups: every report counts exactly once, whenever it comes and whoever rolls it up."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self

import asyncpg
import pytest
import pytest_asyncio

from domain.analytics import DAY_MS, HOUR_MS, MINUTE_MS
from domain.idempotency import Answer
from domain.reports import QualityEvaluation
from domain.totals import Totals
from storage import partitions, rollup_reader, rollups, samples
from storage.database import Database
from storage.intake import Intake
from storage.partitions import ensure_day
from storage.rollup_reader import Cell, Question, Span
from storage.rollups import Roller
from tests.activities.reports import prepare
from tests.storage.calls import START, call, roll_up, store
from tests.storage.clocks import Clock, settable_clock

OK = Answer(200, {})
LEVELS = ("rollup_minutes", "rollup_hours", "rollup_days")


@pytest_asyncio.fixture(autouse=True)
async def days(database: Database) -> None:
    """Partitions from two days ago on."""
    await prepare(database)
    pool = await database.pool()
    async with pool.acquire() as connection:
        for table in partitions.TABLES:
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


async def test_a_minute_that_is_rolled_up_again_stays_one_row(database: Database) -> None:
    """Each stretch of arrivals within an hour adds to the rows that are there."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    for minutes in range(4):
        ago = datetime.now(UTC) - hour - timedelta(minutes=10 * minutes)
        await store(database, [call()] * 5, ago_ms=round(ago.total_seconds() * 1000))
    connection = await database.connect()

    class Stepwise(Roller):
        def _pace(self, table: str, count: int) -> None:
            """Each stretch is a minute."""

    assert await Stepwise(connection).run() == 20
    await connection.close()
    assert await rows(database, "rollup_minutes") == 1
    assert (await cells(database))[()].n == 20


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


@pytest_asyncio.fixture
async def stranger(database: Database) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection by a role that is told nothing of what others do."""
    connection = await database.connect()
    await connection.execute(
        """
        CREATE ROLE stranger;
        GRANT ALL ON ALL TABLES IN SCHEMA public TO stranger;
        SET ROLE stranger;
        """
    )
    yield connection
    await connection.execute("RESET ROLE; DROP OWNED BY stranger; DROP ROLE stranger")
    await connection.close()


async def test_a_commit_that_is_under_way_is_not_passed_over(
    database: Database, stranger: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await store(database, [call()], ago_ms=HOUR_MS)
    slow = await samples.connect_for_copy(database)
    transaction = slow.transaction()
    await transaction.start()
    stamp = await samples.clock(slow)
    await samples.copy_rows(slow, "metrics", samples.metric_rows([call()], lambda *_: None), stamp)
    await asyncio.sleep(1.2)  # beyond the margin, within which nothing is rolled up at all
    assert await Roller(stranger).run() == 1
    await transaction.commit()
    await slow.close()
    assert (await cells(database))[()].n == 2
    assert await roll_up(database) == 1
    assert (await cells(database))[()].n == 2


@pytest_asyncio.fixture
async def clock(database: Database) -> AsyncIterator[Clock]:
    connection = await database.connect()
    async with settable_clock(connection) as made:
        yield made
    await connection.close()


async def marks(database: Database) -> tuple[datetime, ...]:
    pool = await database.pool()
    names = "requests_until, scores_until, hours_until, days_until"
    return tuple(await pool.fetchrow(f"SELECT {names} FROM rollup_progress"))


@pytest.mark.parametrize("days", [0.5, 10])
@pytest.mark.parametrize("used", [True, False])
async def test_a_clock_that_was_ahead_loses_nothing_and_rollups_go_on_by_the_true_time(
    database: Database, clock: Clock, days: float, used: bool
) -> None:
    """`used`: reports arrive while it is ahead."""
    intake = await intake_of(database)
    await intake.metrics([call()] * 2, OK)
    await clock.set(days_ahead=days)
    if used:
        await intake.metrics([call()] * 3, OK)
    await asyncio.sleep(1.2)  # beyond the margin, within which nothing is rolled up at all
    assert await roll_up(database) == (5 if used else 2)
    assert max(await marks(database)) > datetime.now(UTC) + timedelta(days=days / 2)
    await clock.set(days_ahead=0)
    await intake.metrics([call()] * 4, OK)
    await intake.metrics([call()] * 100, OK, ack="buffer")
    await intake.close()
    assert intake.stats.lost == 0
    assert (await cells(database))[()].n == (109 if used else 106)
    # All but what has an arrival ahead of the time.
    assert await roll_up(database) == 2
    assert max(await marks(database)) < datetime.now(UTC)
    assert (await cells(database))[()].n == (109 if used else 106)
    intake = await intake_of(database)
    await intake.metrics([call()] * 5, OK)
    await intake.close()
    await asyncio.sleep(1.2)
    assert await roll_up(database) == 5
    assert (await cells(database))[()].n == (114 if used else 111)


async def intake_of(database: Database) -> Intake:
    made = Intake(database)
    await made.start()
    return made


async def test_a_clock_that_was_set_back_for_a_moment_loses_nothing(database: Database, clock: Clock) -> None:
    await store(database, [call()], ago_ms=5000)
    await roll_up(database)
    before = await marks(database)
    await clock.set(days_ahead=-30 / 86_400)
    await store(database, [call()])
    assert await roll_up(database) == 0
    assert await marks(database) == before
    assert (await cells(database))[()].n == 2


async def test_a_clock_that_the_workers_does_not_bear_out_forgets_no_rollups(
    database: Database, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    await store(database, [call()], ago_ms=5000)
    await roll_up(database)
    before = await marks(database)
    await clock.set(days_ahead=-300)
    await store(database, [call()])
    assert await roll_up(database) == 0
    assert "clock is behind its reports" in caplog.text
    assert await marks(database) == before
    assert (await cells(database))[()].n == 2
    await clock.set(days_ahead=0)
    await asyncio.sleep(1.2)
    assert await roll_up(database) == 1


class Behind(datetime):
    """The clock of a worker that was set back as far as PostgreSQL's."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) - timedelta(hours=30)


async def test_after_the_clock_was_set_back_all_is_counted_once_by_any_number_of_workers(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ago in (2 * DAY_MS, DAY_MS + 13 * HOUR_MS // 2, DAY_MS, 3 * HOUR_MS, 120_000):
        await store(database, [call()] * 3, ago_ms=ago)
    await roll_up(database)
    await clock.set(days_ahead=-30 / 24)
    monkeypatch.setattr(rollups, "datetime", Behind)
    counts = await asyncio.gather(*(roll_up(database) for _ in range(3)))
    assert sum(counts) == 3
    assert max(await marks(database)) < Behind.now(UTC)
    assert (await cells(database))[()].n == 15
    await store(database, [call()] * 2)
    assert (await cells(database))[()].n == 17
    await clock.set(days_ahead=0)
    monkeypatch.undo()
    assert await roll_up(database) == 11
    assert (await cells(database))[()].n == 17


async def test_a_clock_that_is_set_back_in_the_midst_of_a_run_ends_it(
    database: Database, clock: Clock
) -> None:
    """Else what arrives from then on would be passed over."""
    await store(database, [call()], ago_ms=5 * HOUR_MS)
    await store(database, [call()], ago_ms=120_000)
    connection = await database.connect()

    class SetBack(Roller):
        async def _advance(self, source: Any, goal: datetime) -> int | None:
            count = await super()._advance(source, goal)
            await clock.set(days_ahead=-4 / 24)
            return count

    assert await SetBack(connection).run() == 1
    await connection.close()
    await store(database, [call()])
    assert (await cells(database))[()].n == 3
    await clock.set(days_ahead=0)
    assert await roll_up(database) == 2
    assert (await cells(database))[()].n == 3


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
    await rollups.rebuild(connection, datetime.now(UTC) - timedelta(days=3))
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
