"""What telemetry was taken already is known to the intake, for as long as it may come again."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest_asyncio

from domain.idempotency import Answer
from domain.reports import MetricReport
from domain.spans import SpanMark
from domain.telemetry import SeriesState
from storage import telemetry
from storage.database import Database
from storage.intake import Intake
from storage.telemetry import NewSpans, NewSteps, SeriesStep, standing

TAKEN = Answer(200, {})


def report() -> MetricReport:
    return MetricReport(
        timestamp=int(time.time() * 1000),
        service="chat",
        endpoint="chat",
        model="gpt-4o",
        provider="openai",
        latency_ms=1.0,
        tokens_input=1,
        tokens_output=1,
        tokens_total=2,
        status_code=200,
    )


def mark(number: int) -> SpanMark:
    return SpanMark(number.to_bytes(16), number.to_bytes(8))


def step(before: int | None, at: int, first: int, last: int, name: bytes = b"series") -> SeriesStep:
    return SeriesStep(name, before, SeriesState(at, at, float(at), (at, 0)), first, last)


@pytest_asyncio.fixture
async def intakes(database: Database) -> AsyncIterator[list[Intake]]:
    """Those of two replicas."""
    opened = [Intake(database), Intake(database)]
    for intake in opened:
        await intake.start()
    yield opened
    for intake in opened:
        await intake.close()


async def kept(database: Database) -> int:
    pool = await database.pool()
    count: int = await pool.fetchval("SELECT count(*) FROM metrics")
    return count


async def test_replicas_that_get_the_same_spans_at_once_keep_them_once(
    database: Database, intakes: list[Intake]
) -> None:
    # In any order, and by more than one batch of a commit.
    batches = [[1, 2, 3], [3, 2, 1], [2, 4], [4, 1], [1, 1]]
    await asyncio.gather(
        *(
            intake.metrics([report() for _ in batch], TAKEN, new=NewSpans([mark(number) for number in batch]))
            for batch in batches
            for intake in intakes
        )
    )
    assert await kept(database) == 4
    assert (await standing(database, ["chat", "mail"], [])).with_spans == {"chat"}


async def test_a_step_is_made_once_from_where_the_series_was(
    database: Database, intakes: list[Intake]
) -> None:
    one, other = intakes
    first = NewSteps([step(None, 5, 0, 2), step(None, 5, 2, 3, b"other")])
    await asyncio.gather(*(intake.metrics([report()] * 3, TAKEN, new=first) for intake in (one, other)))
    assert await kept(database) == 3
    known = (await standing(database, [], [b"series", b"unknown"])).states
    assert known == {b"series": SeriesState(5, 5, 5.0, (5, 0))}
    late = NewSteps([step(3, 6, 0, 1), step(5, 7, 1, 2, b"other")])
    await one.metrics([report()] * 2, TAKEN, new=late)
    assert await kept(database) == 4, "of a series that has gone on meanwhile nothing is kept"
    await one.metrics([], TAKEN, new=NewSteps([step(5, 9, 0, 0)]))
    assert (await standing(database, [], [b"series"])).states[b"series"].at == 9


async def test_what_is_old_is_forgotten(database: Database, intakes: list[Intake]) -> None:
    one, _ = intakes
    await one.metrics([report()], TAKEN, new=NewSpans([mark(1)]))
    await one.metrics([], TAKEN, new=NewSteps([step(None, 5, 0, 0)]))
    pool = await database.pool()
    for span_hours, series_days, left in ((23, 29, 1), (25, 31, 0)):
        await pool.execute(f"UPDATE taken_spans SET taken_at = now() - interval '{span_hours} hours'")
        await pool.execute(f"UPDATE span_services SET last_at = now() - interval '{span_hours} hours'")
        await pool.execute(f"UPDATE taken_series SET taken_at = now() - interval '{series_days} days'")
        async with database.transaction() as session:
            await telemetry.purge(session)
        for table in ("taken_spans", "span_services", "taken_series"):
            assert await pool.fetchval(f"SELECT count(*) FROM {table}") == left, table
