"""Reports of calls and scores as clients send them, kept as the intake keeps them."""

from collections.abc import Iterable
from typing import Any

from domain.analytics import MINUTE_MS
from domain.reports import MetricReport, QualityEvaluation
from storage import samples
from storage.database import Database
from storage.rollups import Roller

START = 1_760_000_000_000 // MINUTE_MS * MINUTE_MS
"""A minute of the clock, in the past."""


def call(at: int = START, **change: Any) -> MetricReport:
    fields: dict[str, Any] = {
        "timestamp": at,
        "service": "chat",
        "endpoint": "answer",
        "provider": "openai",
        "model": "gpt-4o",
        "latency_ms": 100.0,
        "tokens_input": 200,
        "tokens_output": 100,
        "tokens_total": 300,
        "status_code": 200,
        "cost_usd": 0.002,
    }
    return MetricReport(**(fields | change))


async def store(
    database: Database,
    calls: Iterable[MetricReport] = (),
    scores: Iterable[QualityEvaluation] = (),
    *,
    ago_ms: int = 0,
) -> None:
    """Keep reports that arrive now, or did a while ago, in their order."""
    connection = await samples.connect_for_copy(database)
    try:
        arrived = await samples.clock(connection) - ago_ms * 1000
        rows = samples.metric_rows(calls, lambda *_: None)
        await samples.copy_rows(connection, "metrics", rows, arrived)
        await samples.copy_rows(connection, "quality", samples.quality_rows(scores), arrived)
    finally:
        await connection.close()


async def roll_up(database: Database) -> int:
    """Roll up what has arrived, as the worker does; gives how many reports."""
    connection = await database.connect()
    try:
        return await Roller(connection).run()
    finally:
        await connection.close()
